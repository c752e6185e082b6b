import assert from 'node:assert/strict';
import { closeSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import type { DirectoryNode, FileNode, RegularNode } from '../../src/core/types.ts';
import { mountFuse, type MountWay } from '../../src/mount/fuse/mount.ts';
import { findMount, mountAt, parseMountinfo } from '../../src/mount/fuse/mountinfo.ts';
import { startFuseSession } from '../../src/mount/fuse/session.ts';
import { abortConnection, unmountFuse } from '../../src/mount/fuse/unmount.ts';
import { NativeError } from '../../src/mount/native.ts';
import type { Miss } from '../../src/mount/types.ts';
import { sealSuperblock } from '../../src/erofs/layout.ts';
import { build, Contents, sameLines, samples } from '../erofs/trees.ts';
import { attributes as plain, file } from '../layer/nodes.ts';
import { deviceOf, sharedCopy } from './fuse-kernel.ts';
import { answerFrom, cannotMount, cannotMountNatively, expected, halfLocal, look, mounted, mountPlace, place, run, start, type Mounted } from './fuse-mounted.ts';

const directory = (children: readonly (readonly [string, FileNode])[], changes: Partial<DirectoryNode> = {}): DirectoryNode => ({ ...plain, type: 'directory', children: new Map(children), ...changes });
const open = { mode: 0o755, uid: 0, gid: 0 };

/** Mounts a tree whose content is in memory. */
async function mountTree(root: DirectoryNode, contents: Contents, { here = () => true, answer = answerFrom(contents.devices.map(({ bytes }) => bytes)), how }: { here?: (page: number) => boolean; answer?: Parameters<typeof mounted>[1]; how?: MountWay } = {}, blockSize: 512 | 1024 | 2048 | 4096 = 4096): Promise<Mounted> {
  const metadata = await build(root, { blockSize, devices: contents.devices, place: contents.place });
  const devices = contents.devices.map(({ bytes }) => halfLocal(bytes, here).device);
  return mounted({ shape: 'tree', metadata, devices }, answer, how === undefined ? {} : { how });
}

/** Random ACLs are none that a kernel takes. */
function withoutAcls(node: FileNode): void {
  for (const name of node.xattrs.keys()) if (name.startsWith('system.')) (node.xattrs as Map<string, Uint8Array>).delete(name);
  if (node.type === 'directory') for (const child of node.children.values()) withoutAcls(child);
}

it('any tree is seen as it is, half of it fetched', { skip: cannotMountNatively }, async () => {
  let round = 0;
  await fc.assert(
    fc.asyncProperty(samples(60), async ({ root, contents, blockSize }) => {
      withoutAcls(root);
      round += 1;
      const image = await build(root, { blockSize, devices: contents.devices, place: contents.place });
      const mount = await mountTree(root, contents, { here: (page) => (page * 7 + round) % 3 !== 0, how: round % 2 === 0 ? 'syscall' : 'mount' }, blockSize);
      try {
        sameLines(await look(mount.dir), await expected(root, image, (node) => contents.digestOf(node)));
        assert.deepEqual(mount.problems, []);
      } finally {
        await mount.close();
      }
    }),
    { numRuns: 8, seed: 5 },
  );
});

it('what was looked at once is not asked for again', { skip: cannotMountNatively }, async () => {
  const contents = new Contents(4096, 1);
  const files = Array.from({ length: 60 }, (_, i) => [`file-${i}`, contents.add(file('x'.repeat(5000 + i), open), [[1, 2]])] as const);
  const root = directory([['a', directory(files, open)], ['b', directory([['c', directory(files.slice(0, 9), open)]], open)]], open);
  const mount = await mountTree(root, contents);
  const asked = async (command: string): Promise<Readonly<Record<string, number>>> => {
    const before = mount.session.stats().requests;
    await run('sh', ['-c', command]);
    const after = mount.session.stats().requests;
    return Object.fromEntries(Object.entries(after).map(([name, count]) => [name, count - (before[name] ?? 0)] as const).filter(([name, count]) => count > 0 && !/forget|statfs/i.test(name)));
  };
  const all = `cd ${mount.dir} && ls -lR . && find . && cat a/* && test ! -e a/absent && test ! -e a/b`;
  const first = await asked(all);
  assert.ok((first['read'] ?? 0) >= 60 && first['open'] === 1 && first['opendir'] === 1, JSON.stringify(first));
  assert.deepEqual(await asked(all), {});
  await mount.close();
});

it('a directory of 100 000 entries', { skip: cannotMountNatively }, async () => {
  const one = file('', open);
  const names = Array.from({ length: 100_000 }, (_, i) => `entry-${i}`);
  const mount = await mountTree(directory([['big', directory(names.map((name) => [name, one] as const), open)]], open), new Contents(4096, 1));
  const script = 'import os,sys; n=os.listdir(sys.argv[1]); assert len(set(n)) == len(n); print(len(n), min(n), max(n), sum(os.stat(sys.argv[1] + "/" + x).st_nlink for x in n[::50]))';
  assert.equal((await run('python3', ['-c', script, `${mount.dir}/big`])).trim(), `100000 entry-0 entry-99999 ${2000 * 100_000}`);
  await mount.close();
});

it('a fetch that fails is an error of that read, and the next one is tried anew', { skip: cannotMountNatively }, async () => {
  const contents = new Contents(4096, 1);
  const node = contents.add(file('x'.repeat(20_000), open), [[1, 5]]);
  const root = directory([['dir', directory([['sub', directory([['file', node]], open)]], open)]], open);
  let failing: (() => Promise<Uint8Array>) | undefined = () => Promise.reject(new LazypullError('NETWORK', 'the registry is down'));
  const real = answerFrom(contents.devices.map(({ bytes }) => bytes));
  const mount = await mountTree(root, contents, { here: () => false, answer: (miss: Miss) => failing?.() ?? real(miss) });
  const path = `${mount.dir}/dir/sub/file`;
  await assert.rejects(run('cat', [path]), /Input\/output error/);
  assert.ok(mount.problems.length > 0);
  const [{ error, about }] = mount.problems as [Mounted['problems'][0]];
  assert.deepEqual([error.code, error.message, about.operation, about.path], ['NETWORK', 'the registry is down', 'read', 'dir/sub/file']);
  assert.ok(about.runs?.[0]?.device === 1 && about.length !== undefined && about.milliseconds !== undefined);
  // Mistakes of ours are no worse: bytes too few, an exception.
  failing = () => Promise.resolve(new Uint8Array(7));
  await assert.rejects(run('cat', [path]), /Input\/output error/);
  failing = () => {
    throw new TypeError('a mistake');
  };
  await assert.rejects(run('cat', [path]), /Input\/output error/);
  failing = undefined;
  assert.equal(`sha256:${(await run('sha256sum', [path])).slice(0, 64)}`, contents.digestOf(node));
  assert.equal(mount.session.stats().pending, 0);
  assert.ok(mount.session.stats().errors >= 3);
  await mount.close();
});

it('metadata that is damaged is an error of what it is about', { skip: cannotMountNatively }, async () => {
  const root = directory([['good', file('', open)], ['bad', directory([['x', file('', open)]], open)]], open);
  const metadata = Buffer.from(await build(root, { place: () => undefined }));
  const clean = await mounted({ shape: 'tree', metadata, devices: [] }, answerFrom([]));
  const nid = Number((await run('stat', ['-c', '%i', `${clean.dir}/bad`])).trim());
  await clean.close();
  metadata.writeUInt16LE(0xffff, nid * 32);
  sealSuperblock(metadata.subarray(1024, 4096));
  const mount = await mounted({ shape: 'tree', metadata, devices: [] }, answerFrom([]));
  await assert.rejects(run('ls', [`${mount.dir}/bad`]), /Input\/output error/);
  await run('ls', [`${mount.dir}/good`]);
  assert.match(await run('ls', [mount.dir]), /bad\ngood/);
  assert.equal(mount.problems[0]?.error.code, 'CORRUPT');
  await mount.close();
});

it('metadata that is none is said so', { skip: cannotMountNatively }, async () => {
  const { dir, fd } = await mountPlace();
  await assert.rejects(startFuseSession({ fd, served: { shape: 'tree', metadata: sharedCopy(Buffer.alloc(8192)), devices: [] }, resend: false, answer: answerFrom([]), onProblem: () => undefined }), { code: 'CORRUPT' });
  await unmountFuse(dir, { force: true });
  closeSync(fd);
});

it('many readers are served side by side', { skip: cannotMountNatively }, async () => {
  const contents = new Contents(4096, 1);
  const files = Array.from({ length: 12 }, (_, i) => [`f${i}`, contents.add(file('x'.repeat(4096), open), [[1, 1]])] as const);
  const real = answerFrom(contents.devices.map(({ bytes }) => bytes));
  let waiting = 0;
  let release = (): void => undefined;
  const all = new Promise<void>((resolve) => (release = resolve));
  // Nobody is answered before everybody has asked.
  const mount = await mountTree(directory(files, open), contents, { here: () => false, answer: async (miss) => {
    waiting += 1;
    if (waiting === 12) release();
    await all;
    return real(miss);
  } });
  await Promise.all(files.map(([name]) => run('cat', [`${mount.dir}/${name}`])));
  await mount.close();
});

/** One device whose bytes never come. */
async function mountHanging(): Promise<{ readonly mount: Mounted; readonly signals: AbortSignal[]; asked: Promise<void>; answer(): void }> {
  const signals: AbortSignal[] = [];
  let tell = (): void => undefined;
  let answer = (): void => undefined;
  const asked = new Promise<void>((resolve) => (tell = resolve));
  const answered = new Promise<Uint8Array>((resolve) => (answer = () => resolve(Buffer.alloc(4096, 0x61))));
  const mount = await mounted({ shape: 'devices', metadata: Buffer.alloc(4096), devices: [{ ...deviceOf(4096, false), fd: halfLocal(Buffer.alloc(4096), () => false).device.fd }] }, (_, signal) => {
    signals.push(signal as AbortSignal);
    tell();
    return Promise.race([answered, new Promise<never>((_resolve, reject) => (signal as AbortSignal).addEventListener('abort', () => reject(new LazypullError('CANCELLED', 'cancelled'))))]);
  });
  return { mount, signals, asked, answer };
}

const SIGNALLED = 'import os,signal,sys; signal.signal(signal.SIGUSR1, lambda *a: print("signal", flush=True)); f=os.open(sys.argv[1], os.O_RDONLY); print("reading", flush=True); print(len(os.pread(f, 4096, 0)), flush=True)';

it('a reader that is killed ends its fetch; one that only gets a signal still gets its bytes', { skip: cannotMountNatively }, async () => {
  const { mount, signals, asked, answer } = await mountHanging();
  const killed = start('python3', ['-c', SIGNALLED, `${mount.dir}/1`]);
  await asked;
  killed.process.kill('SIGUSR1');
  await sleep(150);
  assert.equal(signals[0]?.aborted, false);
  // The kernel says only once that there was a signal.
  killed.process.kill('SIGKILL');
  assert.equal(await killed.ended, 'SIGKILL');
  assert.equal(signals[0]?.aborted, true);
  assert.equal(mount.session.stats().interrupted, 1);
  assert.deepEqual(mount.problems, [], 'that is nobody\'s problem');

  const patient = start('python3', ['-c', SIGNALLED, `${mount.dir}/1`]);
  while (signals.length < 2) await sleep(10);
  patient.process.kill('SIGUSR1');
  await sleep(50);
  answer();
  assert.equal(await patient.ended, 0);
  assert.match(patient.output, /4096/);
  await mount.close();
});

it('a busy mount stays until told otherwise', { skip: cannotMountNatively }, async () => {
  const mount = await mountTree(directory([['f', file('', open)]], open), new Contents(4096, 1));
  const user = start('sh', ['-c', `cd ${mount.dir} && echo in && exec sleep 60`]);
  await user.says('in');
  await assert.rejects(unmountFuse(mount.dir), (error: unknown) => error instanceof NativeError && error.errnoName === 'EBUSY');
  assert.ok(mountAt(mount.dir));
  await unmountFuse(mount.dir, { lazy: true });
  assert.equal(mountAt(mount.dir), undefined);
  await assert.rejects(unmountFuse(mount.dir), { code: 'NOT_FOUND' });
  user.process.kill();
  await user.ended;
  await mount.close();
});

it('a mount point may be reached over symlinks', { skip: cannotMountNatively }, async () => {
  const real = place('real');
  mkdirSync(`${real}/inside`, { recursive: true });
  const [parent, itself] = [place('parent'), place('itself')];
  symlinkSync(real, parent);
  symlinkSync(`${real}/inside`, itself);
  for (const path of [`${parent}/inside`, itself, `${parent}/./inside/`]) {
    const { fd, target, device } = await mountFuse(path);
    assert.equal(target, `${real}/inside`);
    assert.equal(mountAt(target)?.device, device);
    // Nobody serves it: to look at it would hang.
    assert.equal((await findMount(path))?.target, target);
    await unmountFuse(path);
    assert.equal(mountAt(target), undefined);
    closeSync(fd);
  }
});

it('force frees whoever waits', { skip: cannotMountNatively }, async () => {
  const { mount, asked } = await mountHanging();
  const reader = start('sh', ['-c', `cat ${mount.dir}/1; echo "ended $?"`]);
  await asked;
  await unmountFuse(mount.dir, { force: true });
  assert.equal(await reader.ended, 0);
  assert.match(reader.output, /ended [1-9]/);
  assert.equal(mountAt(mount.dir), undefined);
  assert.match(await mount.session.ended, /unmounted|aborted/);
  closeSync(mount.fd);
});

it('another thread of ours takes over, and what waits goes on', { skip: cannotMountNatively }, async () => {
  const { mount, asked } = await mountHanging();
  const reader = start('sh', ['-c', `cat ${mount.dir}/1 | tr -d a | wc -c`]);
  await asked;
  await mount.session.close();
  assert.equal(await mount.session.ended, 'closed');
  await mount.session.close();
  const next = await startFuseSession({ fd: mount.fd, served: { shape: 'devices', metadata: sharedCopy(Buffer.alloc(4096)), devices: [deviceOf(4096, false)] }, resend: true, answer: async ({ length }) => Buffer.alloc(length, 0x61), onProblem: (error) => assert.fail(error) });
  assert.equal(await reader.ended, 0);
  assert.equal(reader.output.trim(), '0');
  assert.equal(next.stats().misses, 1);
  await unmountFuse(mount.dir);
  assert.equal(await next.ended, 'unmounted');
  closeSync(mount.fd);
});

it('slow reads are told of', { skip: cannotMountNatively }, async () => {
  const contents = new Contents(4096, 1);
  const metadata = await build(directory([['f', contents.add(file('x'.repeat(5000), open), [[1, 2]])]], open), { devices: contents.devices, place: contents.place });
  const { dir, fd } = await mountPlace();
  const slow: (string | undefined)[] = [];
  const session = await startFuseSession({
    fd, served: { shape: 'tree', metadata: sharedCopy(metadata), devices: [deviceOf(8192, false)] }, resend: false, onProblem: (error) => assert.fail(error), slowMs: 30,
    answer: async ({ length }) => sleep(60, new Uint8Array(length)), onSlow: ({ path, milliseconds = 0 }) => slow.push(`${path} ${milliseconds >= 30}`),
  });
  await run('cat', [`${dir}/f`]);
  await unmountFuse(dir);
  await session.ended;
  assert.deepEqual(slow, ['f true']);
  closeSync(fd);
});

it('ACLs, capabilities and ownership count', { skip: cannotMountNatively }, async () => {
  // user::rw-, user:65534:---, group::r--, mask::r--, other::r--
  const acl = Buffer.from('02000000' + '01000600ffffffff' + '02000000feff0000' + '04000400ffffffff' + '10000400ffffffff' + '20000400ffffffff', 'hex');
  const contents = new Contents(4096, 1);
  const add = (changes: Partial<RegularNode>): RegularNode => contents.add(file('content', { ...open, mode: 0o644, ...changes }), [[1, 1]]);
  const root = directory([['acl', add({ xattrs: new Map([['system.posix_acl_access', acl]]) })], ['all', add({})], ['root', add({ mode: 0o600 })], ['trusted', add({ xattrs: new Map([['trusted.a', Buffer.from('1')], ['user.b', Buffer.from('2')]]) })]], open);
  const mount = await mountTree(root, contents);
  const as = (uid: number, script: string): Promise<string> => run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'sh', '-c', `cd ${mount.dir} && ${script}`]);
  assert.equal(await as(65_534, 'sha256sum all'), await run('sh', ['-c', `cd ${mount.dir} && sha256sum all`]));
  await as(65_533, 'cat acl');
  await assert.rejects(as(65_534, 'cat acl'), /Permission denied/);
  await assert.rejects(as(65_534, 'cat root'), /Permission denied/);
  const names = 'python3 -c "import os; print(os.listxattr(\'trusted\'))"';
  assert.equal((await as(65_534, names)).trim(), "['user.b']");
  assert.match(await run('sh', ['-c', `cd ${mount.dir} && ${names}`]), /trusted\.a/);
  await assert.rejects(run('sh', ['-c', `echo x > ${mount.dir}/all`]), /Read-only/);
  await mount.close();
});

it('devices are files for the kernel\'s EROFS', { skip: cannotMountNatively }, async () => {
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 31) % 251));
  const metadata = Buffer.from(Array.from({ length: 8192 }, (_, i) => i % 7));
  const mount = await mounted({ shape: 'devices', metadata, devices: [halfLocal(bytes, (page) => page % 2 === 0).device] }, answerFrom([Buffer.concat([bytes, Buffer.alloc(4096)])]));
  const padded = Buffer.concat([bytes, Buffer.alloc(18 * 4096 - bytes.length)]);
  assert.equal(await run('sh', ['-c', `cd ${mount.dir} && stat -c '%n %s %a' * && base64 -w0 1 && echo && dd if=1 bs=512 skip=9 count=20 status=none | base64 -w0 && echo && base64 -w0 0`]),
    `0 8192 400\n1 ${padded.length} 400\n${padded.toString('base64')}\n${padded.subarray(9 * 512, 29 * 512).toString('base64')}\n${metadata.toString('base64')}`);
  const user = run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'ls', mount.dir]);
  await assert.rejects(user, /Permission denied/);
  assert.ok(mount.session.stats().localReads > 0 && mount.session.stats().misses > 0);
  await mount.close();
});

const FUSECTL = '/sys/fs/fuse/connections';

it('the connection can be ended from outside', { skip: cannotMountNatively }, async (t) => {
  const ours = !mountAt(FUSECTL);
  if (ours) await run('mount', ['-t', 'fusectl', 'fusectl', FUSECTL]).catch(() => '');
  t.after(() => (ours && mountAt(FUSECTL) ? run('umount', [FUSECTL]) : ''));
  const mount = await mountTree(directory([], open), new Contents(4096, 1));
  if (!abortConnection(mountAt(mount.dir)?.device ?? '')) {
    await mount.close();
    return t.skip('fusectl is not mounted');
  }
  assert.match(await mount.session.ended, /aborted|unmounted/);
  await unmountFuse(mount.dir, { force: true });
  closeSync(mount.fd);
});

it('says what is wrong with a place', { skip: cannotMount }, async () => {
  const absent = place('absent');
  for (const how of ['syscall', 'mount'] as const) await assert.rejects(mountFuse(absent, { how }), (error: unknown) => error instanceof LazypullError && error.code !== 'INTERNAL' && error.message.includes(absent), how);
  writeFileSync(absent, '');
  for (const how of ['syscall', 'mount'] as const) await assert.rejects(mountFuse(absent, { how }), LazypullError, how);
  await assert.rejects(unmountFuse('/proc'), { code: 'NOT_FOUND', message: /proc/ });
});

it('reads the list of mounts', () => {
  const text = '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n25 1 0:45 / /tmp/a\\040b\\134c rw shared:7 master:2 - fuse.lazypull docker://x\\040y ro,user_id=0\n\nshort line\n';
  assert.deepEqual(parseMountinfo(text), [
    { device: '98:0', target: '/mnt2', type: 'ext3', source: '/dev/root' },
    { device: '0:45', target: '/tmp/a b\\c', type: 'fuse.lazypull', source: 'docker://x y' },
  ]);
});
