import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { before, it } from 'node:test';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import type { MountWay } from '../../src/mount/fuse/mount.ts';
import { build, Contents } from '../erofs/trees.ts';
import { attributes as plain, file, symlink } from '../layer/nodes.ts';
import type { ServeJob } from './fuse-serve.ts';
import { cannotMount, cannotMountNatively, place, run, SERVE, start } from './fuse-mounted.ts';

// Mounts by processes that are less than root, or have less than we: each serves a tree and has a child hash it.

const open = { ...plain, mode: 0o755, uid: 0, gid: 0 };
const contents = new Contents(4096, 1);
const files = Array.from({ length: 20 }, (_, i) => [`file-${i}`, contents.add(file('x'.repeat(3000 * i + 1), open), [[1, 16]])] as const);
const root: DirectoryNode = { ...open, type: 'directory', children: new Map<string, FileNode>([['d', { ...open, type: 'directory', children: new Map(files) }], ['link', symlink('d/file-3')]]) };
const metadata = place('metadata');
const device = place('device');
let sums = '';

before(async () => {
  const { devices, place: placeOf } = contents;
  writeFileSync(metadata, await build(root, { devices, place: placeOf }));
  writeFileSync(device, devices[0]?.bytes ?? '');
  sums = files.map(([name, node]) => `${contents.digestOf(node).slice(7)}  d/${name}`).sort().join('\n');
});

function job(changes: Partial<ServeJob>): { readonly dir: string; readonly json: string } {
  const dir = place('mount');
  mkdirSync(dir);
  const all: ServeJob = { metadata, devices: [device], here: 2, delay: 0, dir, command: ['sh', '-c', `cd ${dir} && sha256sum d/* && readlink link && grep ' ${dir} ' /proc/self/mountinfo`], ...changes };
  return { dir, json: JSON.stringify(all) };
}

function check(output: string, how: MountWay): void {
  const sums256 = output.split('\n').filter((line) => /^[0-9a-f]{64} /.test(line)).sort().join('\n');
  assert.equal(sums256, sums, output);
  assert.match(output, new RegExp(`^ready ${how}$`, 'm'));
  assert.match(output, /^d\/file-3$/m);
  assert.match(output, / - fuse\.lazypull lazypull ro,/);
  assert.match(output, /^child 0$/m);
  assert.match(output, /^ended unmounted$/m);
}

it('root of a user namespace mounts', { skip: cannotMountNatively }, async (t) => {
  if (await run('unshare', ['-Urm', 'true']).then(() => false, () => true)) return t.skip('no user namespaces');
  for (const how of ['syscall', 'mount'] as const) {
    const child = start('unshare', ['-Urm', process.execPath, SERVE, job({ how }).json]);
    assert.equal(await child.ended, 0, child.output);
    check(child.output, how);
  }
});

it('without koffi, root mounts through mount(8), and the thread reads as a file', { skip: cannotMount }, async () => {
  const child = start(process.execPath, [SERVE, job({}).json], { env: { LAZYPULL_NO_NATIVE: '1' } });
  assert.equal(await child.ended, 0, child.output);
  check(child.output, 'mount');
});

it('any user mounts through fusermount3', { skip: cannotMountNatively }, async (t) => {
  if (await run('fusermount3', ['-V']).then(() => false, () => true)) return t.skip('fusermount3 is not installed');
  const { dir, json } = job({});
  chmodSync(dir, 0o777);
  // Where only root may use the device, a copy of it that everybody may stands in, in a mount namespace of its own.
  const node = place('fuse-device');
  const script = `mknod -m 666 ${node} c 10 229 && mount --bind ${node} /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/ "$@"`;
  if (await run('unshare', ['-m', 'sh', '-c', script, 'sh', 'true']).then(() => false, () => true)) return t.skip('cannot offer /dev/fuse to other users');
  await run('rm', ['-f', node]);
  const child = start('unshare', ['-m', 'sh', '-c', script, 'sh', process.execPath, SERVE, json]);
  const code = await child.ended;
  await run('rm', ['-f', node]);
  assert.equal(code, 0, child.output);
  check(child.output, 'fusermount');
  assert.match(child.output, /nosuid,nodev.*user_id=65534/);
  assert.ok(!child.output.includes('allow_other'), 'others stay out');
});

it('a process that leaves does not hang on its thread', { skip: cannotMountNatively }, async () => {
  for (const env of [{}, { LAZYPULL_NO_NATIVE: '1' }]) {
    for (const end of ['process.exit(3)', 'throw new Error("a mistake of ours")', 'await session.close(); process.exitCode = 3']) {
      const { dir } = job({});
      const url = (name: string): string => JSON.stringify(new URL(`../../src/mount/fuse/${name}.js`, import.meta.url).href);
      const script = `
        process.on('uncaughtException', () => process.exit(3));
        const { mountFuse } = await import(${url('mount')});
        const { startFuseSession } = await import(${url('session')});
        const { readFileSync } = await import('node:fs');
        const metadata = new SharedArrayBuffer(${(await build(root, { devices: contents.devices, place: contents.place })).length});
        new Uint8Array(metadata).set(readFileSync(${JSON.stringify(metadata)}));
        const { fd } = await mountFuse(${JSON.stringify(dir)});
        const session = await startFuseSession({ fd, served: { shape: 'tree', metadata, devices: [] }, resend: false, answer: async () => new Uint8Array(0), onProblem: () => undefined });
        while (session.stats().requests.init === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
        ${end};`;
      const child = start(process.execPath, ['--input-type=module', '-e', script], { env });
      assert.equal(await child.ended, 3, `${end} ${JSON.stringify(env)}`);
      await run('umount', ['-l', dir]);
    }
  }
});
