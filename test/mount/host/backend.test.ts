import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { MemorySource } from '../../../src/core/source.ts';
import { openErofs } from '../../../src/erofs/read.ts';
import { chooseBackend, isAtLeast } from '../../../src/mount/host/backend.ts';
import { isRealRoot } from '../../../src/mount/host/processes.ts';
import { tinyImage } from '../../../src/mount/host/tiny-image.ts';

const folder = mkdtempSync(join(tmpdir(), 'lazypull-backend-'));
after(() => rmSync(folder, { recursive: true }));
const wish = { cacheDir: join(folder, 'cache'), staging: join(folder, 'staging') };

describe('choice of a backend', () => {
  it('compares versions of kernels', () => {
    for (const [kernel, wanted] of [['6.12.7', true], ['6.12.6', false], ['6.12', false], ['6.13', true], ['6.13.0-rc1', true], ['7.0.0', true], ['5.15.200', false], ['6.18.44-x86_64+', true], ['odd', false]] as const) {
      assert.equal(isAtLeast(kernel, [6, 12, 7]), wanted, kernel);
    }
  });

  it('takes fuse when it is asked for, without trying anything', async () => {
    assert.deepEqual(await chooseBackend({ ...wish, wanted: 'fuse' }), { backend: 'fuse', metadata: 'file', why: 'asked for' });
  });

  it('says what is in the way of erofs', async () => {
    const reason = isRealRoot() ? /Linux 5\.4\.0 cannot mount it from files/ : /needs (?:root|the right)|user namespace/;
    const choice = await chooseBackend({ ...wish, wanted: 'auto', kernel: '5.4.0' });
    assert.equal(choice.backend, 'fuse');
    assert.match(choice.why, reason);
    await assert.rejects(chooseBackend({ ...wish, wanted: 'erofs', kernel: '5.4.0' }), { code: 'UNSUPPORTED', message: reason });
  });

  it('takes loop devices for old kernels, but only when erofs is asked for', { skip: isRealRoot() ? false : 'needs root' }, async () => {
    assert.deepEqual((await chooseBackend({ ...wish, wanted: 'erofs', kernel: '6.6.1' })).metadata, 'loop');
    assert.deepEqual((await chooseBackend({ ...wish, wanted: 'auto', kernel: '6.6.1' })).backend, 'fuse');
    assert.deepEqual((await chooseBackend({ ...wish, wanted: 'auto', kernel: '6.12.6' })).backend, 'fuse');
  });

  it('tries an image that is one', async () => {
    const { root, superblock } = await openErofs(new MemorySource(tinyImage()));
    assert.equal(root.children.size, 0);
    assert.equal(root.mode, 0o755);
    assert.equal(superblock.blockSize, 512);
  });
});
