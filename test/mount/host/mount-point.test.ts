import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { checkFolder, checkNotHidden, mountPoint } from '../../../src/mount/host/mount-point.ts';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-point-')));
after(() => rmSync(folder, { recursive: true }));

describe('the folder to mount at', () => {
  it('is known by one name', () => {
    mkdirSync(join(folder, 'real', 'mnt'), { recursive: true });
    symlinkSync('real', join(folder, 'link'));
    assert.equal(mountPoint(join(folder, 'link', 'mnt')), join(folder, 'real', 'mnt'));
    assert.equal(mountPoint(join(folder, 'real', '..', 'real', 'mnt')), join(folder, 'real', 'mnt'));
    assert.equal(mountPoint('/'), '/');
    assert.throws(() => mountPoint(join(folder, 'none', 'mnt')), { code: 'NOT_FOUND' });
  });

  it('has to be a folder', () => {
    writeFileSync(join(folder, 'file'), '');
    checkFolder(join(folder, 'real'));
    assert.throws(() => checkFolder(join(folder, 'none')), { code: 'NOT_FOUND' });
    assert.throws(() => checkFolder(join(folder, 'file')), { code: 'USAGE' });
  });

  it('may not hide what the mount itself needs', () => {
    const mnt = join(folder, 'real', 'mnt');
    checkNotHidden(mnt, { 'the cache': join(folder, 'real', 'mnt-cache'), 'the log': undefined, 'the image': join(folder, 'file') });
    for (const path of [mnt, join(mnt, 'cache', 'deep'), join(folder, 'link', 'mnt', 'x')]) assert.throws(() => checkNotHidden(mnt, { 'the cache': path }), { code: 'USAGE', message: /the cache is below the folder/ });
    assert.throws(() => checkNotHidden('/', { 'the program': process.execPath }), { code: 'USAGE' });
  });
});
