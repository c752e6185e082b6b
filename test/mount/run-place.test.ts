import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { placeInRoot } from '../../src/mount/run/place-in-root.ts';
import { readInRoot } from '../../src/mount/run/read-in-root.ts';

describe('paths of a container, seen from outside', () => {
  let outside: string;
  let root: string;
  before(() => {
    outside = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-place-')));
    root = join(outside, 'root');
    for (const folder of ['etc', 'usr/lib', 'run']) mkdirSync(join(root, folder), { recursive: true });
    writeFileSync(join(outside, 'secret'), 'not the image\'s');
    writeFileSync(join(root, 'usr/lib/passwd'), 'root:x:0:0::/:\n');
    for (const [target, name] of [
      ['usr/lib', 'lib'], ['/usr/lib/passwd', 'etc/passwd'], ['../../../../../secret', 'etc/up'], ['/', 'etc/top'], ['/run/none/resolv.conf', 'etc/resolv.conf'], ['b', 'etc/a'], ['a', 'etc/b'], ['usr/lib/passwd/', 'slash'], ['../lib/../etc', 'usr/back'],
    ] as const) symlinkSync(target, join(root, name));
    symlinkSync(Buffer.from([0x66, 0xff]), join(root, 'etc/bytes'));
    writeFileSync(join(root, 'etc/empty'), '');
  });
  after(() => rmSync(outside, { recursive: true }));

  const inside = async (path: string): Promise<string> => {
    const place = await placeInRoot(root, path);
    assert.equal(place.path, place.inside === '/' ? root : `${root}${place.inside}`);
    return `${place.inside} ${place.stats ? (place.stats.isDirectory() ? 'folder' : 'file') : 'missing'}`;
  };

  it('never leave the root', async () => {
    assert.equal(await inside('/'), '/ folder');
    assert.equal(await inside('../../etc/..'), '/ folder');
    assert.equal(await inside('/lib/passwd'), '/usr/lib/passwd file');
    assert.equal(await inside('/etc/passwd'), '/usr/lib/passwd file');
    assert.equal(await inside('/etc/up'), '/secret missing');
    assert.equal(await inside('/etc/top/etc/top'), '/ folder');
    // Two dots are meant of where a link has led to.
    assert.equal(await inside('/usr/back/passwd'), '/usr/etc/passwd missing');
    assert.equal(await inside('/slash'), '/usr/lib/passwd file');
  });

  it('may be missing, from anywhere on', async () => {
    assert.equal(await inside('/etc/resolv.conf'), '/run/none/resolv.conf missing');
    assert.equal(await inside('/no/such/../thing'), '/no/thing missing');
    assert.equal(await inside('/no/../etc'), '/etc folder');
  });

  it('are refused when they lead nowhere at all', async () => {
    const refused = (path: string, message: RegExp): Promise<void> => assert.rejects(placeInRoot(root, path), (error) => error instanceof LazypullError && error.code === 'UNSUPPORTED' && message.test(error.message));
    await refused('/etc/a', /too many levels/);
    await refused('/etc/passwd/x', /not a directory/);
    await refused('/etc/bytes', /not UTF-8/);
  });

  it('are read by somebody else', async () => {
    assert.equal(await readInRoot(root, '/etc/passwd'), 'root:x:0:0::/:\n');
    assert.equal(await readInRoot(root, '/etc/up'), '');
    assert.equal(await readInRoot(root, '/etc/empty'), '');
    assert.equal(await readInRoot(root, '/etc'), '');
    await assert.rejects(readInRoot(root, '/etc/passwd', AbortSignal.abort()), { code: 'CANCELLED' });
  });
});
