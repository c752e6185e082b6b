import assert from 'node:assert/strict';
import { closeSync, mkdirSync, writeFileSync } from 'node:fs';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DirectoryNode, FileNode } from '../../src/core/types.ts';
import { mountFuse } from '../../src/mount/fuse/mount.ts';
import { unmountFuse } from '../../src/mount/fuse/unmount.ts';
import { build, Contents } from '../erofs/trees.ts';
import { attributes as plain, file } from '../layer/nodes.ts';
import type { ServeJob } from './fuse-serve.ts';
import { cannotMountNatively, place, run, SERVE, start, type Child } from './fuse-mounted.ts';

// A server is killed while others read: this process keeps the descriptor, and starts the next one.

const open = { ...plain, mode: 0o755, uid: 0, gid: 0 };

it('readers do not notice that the server is killed, again and again', { skip: cannotMountNatively }, async () => {
  const contents = new Contents(4096, 1);
  const folders = Array.from({ length: 12 }, (_, d) => [`d${d}`, { ...open, type: 'directory', children: new Map<string, FileNode>(Array.from({ length: 12 }, (__, i) => [`f${i}`, contents.add(file('x'.repeat(20_000 + 977 * i), open), [[1, 9]])] as const)) } as const] as const);
  const root: DirectoryNode = { ...open, type: 'directory', children: new Map(folders) };
  const metadata = place('metadata');
  const device = place('device');
  writeFileSync(metadata, await build(root, { devices: contents.devices, place: contents.place }));
  writeFileSync(device, contents.devices[0]?.bytes ?? '');
  const dir = place('mount');
  mkdirSync(dir);
  const { fd } = await mountFuse(dir);
  const job: ServeJob = { metadata, devices: [device], here: 3, delay: 8, resend: true };
  const servers: Child[] = [];
  const serve = (resend: boolean): Child => {
    const child = start(process.execPath, [SERVE, JSON.stringify({ ...job, resend })], { fd });
    servers.push(child);
    return child;
  };
  serve(false);
  const wanted = folders.flatMap(([d, { children }]) => [...children].map(([f, node]) => `${contents.digestOf(node as ReturnType<typeof file>).slice(7)}  ./${d}/${f}`)).sort();
  let kills = 0;
  let done = false;
  const readers = (async () => {
    // Until the server has been killed often enough, in the middle.
    for (let round = 0; kills < 6 || round === 0; round += 1) {
      const outputs = await Promise.all(['', '-r'].map((order) => run('sh', ['-c', `cd ${dir} && find . -type f | sort ${order} | xargs sha256sum`])));
      for (const output of outputs) assert.deepEqual(output.trim().split('\n').sort(), wanted);
      // What is in the page cache would not be asked for.
      await run('find', [dir, '-type', 'f', '-exec', 'dd', 'if={}', 'iflag=nocache', 'count=0', 'status=none', ';']);
    }
    done = true;
  })();
  const killing = (async () => {
    while (!done && kills < 40) {
      await servers.at(-1)?.says('ready');
      await sleep(40 + (kills % 5) * 30);
      if (done) break;
      servers.at(-1)?.process.kill('SIGKILL');
      kills += 1;
      await servers.at(-1)?.ended;
      serve(true);
    }
  })();
  try {
    await Promise.all([readers, killing]);
    assert.ok(kills >= 6);
    await servers.at(-1)?.says('ready');
    await unmountFuse(dir);
    assert.equal(await servers.at(-1)?.ended, 0);
    assert.match(servers.at(-1)?.output ?? '', /ended unmounted/);
  } finally {
    done = true;
    await unmountFuse(dir, { force: true }).catch(() => undefined);
    closeSync(fd);
  }
});

it('a server that dies before the first request is answered is replaced as well', { skip: cannotMountNatively }, async () => {
  const metadata = place('metadata');
  writeFileSync(metadata, await build({ ...open, type: 'directory', children: new Map([['only', file('', open)]]) }, { place: () => undefined }));
  const dir = place('mount');
  mkdirSync(dir);
  const { fd } = await mountFuse(dir);
  // Reads the kernel's first words, and dies with them.
  const first = start(process.execPath, ['-e', 'require("node:fs").readSync(3, Buffer.alloc(1 << 17)); process.stdout.write("got it"); setTimeout(() => {}, 1e6)'], { fd });
  await first.says('got it');
  const reader = run('ls', [dir]);
  first.process.kill('SIGKILL');
  await first.ended;
  const second = start(process.execPath, [SERVE, JSON.stringify({ metadata, devices: [], here: 1, delay: 0, resend: true } satisfies ServeJob)], { fd });
  try {
    assert.equal(await reader, 'only\n');
    await unmountFuse(dir);
    assert.equal(await second.ended, 0);
  } finally {
    await unmountFuse(dir, { force: true }).catch(() => undefined);
    closeSync(fd);
  }
});
