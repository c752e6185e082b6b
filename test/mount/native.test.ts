import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { LazypullError } from '../../src/core/errors.ts';
import { ERRNO, errnoName, loadNative, NativeError, POLL, type Native } from '../../src/mount/native.ts';

const found = loadNative();
const native = found as Native;
const skip = found ? false : 'koffi is not installed';
const folder = mkdtempSync(join(tmpdir(), 'lazypull-native-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

it('reads and writes files, also into memory that threads share', { skip }, () => {
  const fd = openSync(join(folder, 'file'), 'w+');
  assert.equal(native.write(fd, Buffer.from('hello, world')), 12);
  const shared = new Uint8Array(new SharedArrayBuffer(64), 16, 5);
  assert.equal(native.pread(fd, shared, 7), 5);
  assert.equal(Buffer.from(shared).toString(), 'world');
  assert.equal(native.read(fd, new Uint8Array(4)), 0, 'at the end');
  assert.equal(native.pread(fd, new Uint8Array(20), 2), 10, 'short at the end');
  assert.equal(native.pread(fd, new Uint8Array(4), 2 ** 40), 0);
  closeSync(fd);
  assert.equal(native.read(9999, new Uint8Array(4)), -ERRNO.EBADF);
  assert.equal(native.write(9999, new Uint8Array(4)), -ERRNO.EBADF);
  assert.equal(native.pread(9999, new Uint8Array(4), 0), -ERRNO.EBADF);
});

it('failures are typed and named', { skip }, () => {
  assert.throws(() => native.mount('none', join(folder, 'absent'), 'tmpfs', 0, null), (error: unknown) => {
    assert.ok(error instanceof NativeError && error instanceof LazypullError);
    assert.equal(error.code, 'IO');
    assert.ok(error.errnoName === 'ENOENT' || error.errnoName === 'EPERM', error.errnoName);
    assert.equal(error.path, join(folder, 'absent'));
    assert.match(error.message, /^mount of tmpfs: E/);
    return true;
  });
  assert.throws(() => native.umount(join(folder, 'absent'), 0), { errnoName: /ENOENT|EPERM/ });
  assert.throws(() => native.pidfdOpen(2 ** 30), { errno: ERRNO.ESRCH });
  assert.throws(() => native.ioctl(9999, 1, new Uint8Array(8)), { errnoName: 'EBADF' });
  assert.equal(errnoName(15), 'ENOTBLK');
  assert.equal(errnoName(117), 'EUCLEAN');
  assert.equal(errnoName(4095), 'errno 4095');
});

it('an eventfd wakes a poll', { skip }, () => {
  const fd = native.eventfd();
  const events = POLL.in;
  assert.deepEqual(native.poll([{ fd, events }], 0), [0]);
  assert.equal(native.read(fd, new Uint8Array(8)), -ERRNO.EAGAIN);
  writeSync(fd, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
  assert.deepEqual(native.poll([{ fd: -1, events }, { fd, events }, { fd: 9999, events }], -1), [0, POLL.in, POLL.invalid]);
  closeSync(fd);
});

it('punches holes', { skip }, () => {
  const fd = openSync(join(folder, 'holes'), 'w+');
  writeSync(fd, Buffer.alloc(1 << 20, 1));
  try {
    native.fallocatePunch(fd, 4096, 1 << 19);
  } catch (error) {
    assert.ok(error instanceof NativeError && error.errnoName === 'EOPNOTSUPP', String(error));
    return;
  } finally {
    assert.equal(fstatSync(fd).size, 1 << 20, 'the size stays');
  }
  const bytes = Buffer.alloc(8192);
  readSync(fd, bytes, 0, 8192, 0);
  assert.ok(bytes.subarray(0, 4096).every((byte) => byte === 1) && bytes.subarray(4096).every((byte) => byte === 0));
  closeSync(fd);
});

it('a descriptor travels over a socket, and from a process to another', { skip }, async () => {
  const [a, b] = native.socketpair();
  // The other end is Python's, whose sendmsg is not ours.
  const script = 'import array, os, socket\nfd = os.open("/dev/null", os.O_RDONLY)\ns = socket.socket(fileno=3)\ns.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])';
  const child = spawn('python3', ['-c', script], { stdio: ['ignore', 'ignore', 'inherit', b] });
  const started = await new Promise<boolean>((resolve) => {
    child.on('error', () => resolve(false));
    child.on('exit', (code) => resolve(code === 0));
  });
  closeSync(b);
  if (started) {
    const fd = native.receiveFd(a);
    assert.ok(fd !== undefined && fstatSync(fd).isCharacterDevice());
    closeSync(fd);
  }
  assert.equal(native.receiveFd(a), undefined, 'hung up');
  closeSync(a);

  const pidfd = native.pidfdOpen(process.pid);
  const file = openSync(join(folder, 'own'), 'w+');
  const copy = native.pidfdGetfd(pidfd, file);
  assert.equal(fstatSync(copy).ino, fstatSync(file).ino);
  for (const fd of [pidfd, file, copy]) closeSync(fd);
});

it('locks exclude each other', { skip }, () => {
  const path = join(folder, 'lock');
  const one = openSync(path, 'w');
  const two = openSync(path, 'w');
  assert.ok(native.flock(one, 'shared'));
  assert.ok(native.flock(two, 'shared'));
  assert.equal(native.flock(two, 'exclusive'), false);
  assert.ok(native.flock(one, 'none'));
  assert.ok(native.flock(two, 'exclusive'));
  closeSync(two);
  assert.ok(native.flock(one, 'exclusive', true), 'given up when closed');
  closeSync(one);
});

it('freed memory goes back to the system, and what is in use stays', { skip }, () => {
  const kept = Buffer.alloc(1 << 20, 7);
  native.trimHeap();
  assert.ok(kept.every((byte) => byte === 7));
});

it('works in threads', { skip }, async () => {
  const url = new URL('../../src/mount/native.js', import.meta.url);
  const script = `import { parentPort } from 'node:worker_threads'; const { loadNative } = await import(${JSON.stringify(url.href)}); parentPort.postMessage(loadNative().poll([], 0).length);`;
  for (let i = 0; i < 2; i += 1) {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
    assert.equal(await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject)), 0);
    await worker.terminate();
  }
});

it('is absent when told so', async () => {
  const url = new URL('../../src/mount/native.js', import.meta.url);
  const child = spawn(process.execPath, ['--input-type=module', '-e', `const { loadNative } = await import(${JSON.stringify(url.href)}); process.exitCode = loadNative() === undefined ? 0 : 1;`], { env: { ...process.env, LAZYPULL_NO_NATIVE: '1' }, stdio: 'inherit' });
  assert.equal(await new Promise((resolve) => child.on('exit', resolve)), 0);
});
