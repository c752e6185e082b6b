import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountFuse, type MountWay } from '../../src/mount/fuse/mount.ts';
import { startFuseSession } from '../../src/mount/fuse/session.ts';
import { unmountFuse } from '../../src/mount/fuse/unmount.ts';
import { sharedCopy } from './fuse-kernel.ts';

/** How the script that serves a mount in a process of its own is told what to do: as JSON, in its only argument. */
export interface ServeJob {
  /** File with the EROFS image. */
  readonly metadata: string;
  /** Files with whole devices. */
  readonly devices: readonly string[];
  /** One page in so many is here; 0 for none. */
  readonly here: number;
  /** Milliseconds before a miss is answered. */
  readonly delay: number;
  /** Mounts here, runs `command` and unmounts; otherwise the mount is descriptor 3. */
  readonly dir?: string;
  readonly how?: MountWay;
  readonly command?: readonly string[];
  readonly resend?: boolean;
}

const job = JSON.parse(process.argv[2] as string) as ServeJob;
const devices = job.devices.map((path) => {
  const fd = openSync(path, 'r');
  const { size } = fstatSync(fd);
  const present = new SharedArrayBuffer(Math.ceil(size / 4096 / 8) + 1);
  const map = new Uint8Array(present);
  for (let page = 0; job.here > 0 && page * 4096 < size; page += job.here) map[page >> 3] = (map[page >> 3] as number) | (1 << (page & 7));
  return { size, fd, present, bytes: readFileSync(path) };
});
const mount = job.dir === undefined ? undefined : await mountFuse(job.dir, job.how === undefined ? {} : { how: job.how });
const fd = mount?.fd ?? 3;
const session = await startFuseSession({
  fd,
  served: { shape: 'tree', metadata: sharedCopy(readFileSync(job.metadata)), devices: devices.map(({ size, fd: local, present }) => ({ size, fd: local, present })) },
  resend: job.resend ?? false,
  answer: async ({ device, address, length }) => {
    if (job.delay > 0) await sleep(job.delay);
    return Uint8Array.from(devices[device]?.bytes.subarray(address, address + length) ?? []);
  },
  onProblem: (error) => process.stderr.write(`${error.message}\n`),
});
process.stdout.write(`ready ${mount?.how ?? ''}\n`);
if (job.dir !== undefined && job.command) {
  const [command, ...args] = job.command;
  const child = spawn(command as string, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const code = await new Promise((resolve) => child.on('close', resolve));
  process.stdout.write(`child ${code}\n`);
  await unmountFuse(job.dir);
}
process.stdout.write(`ended ${await session.ended}\n`);
closeSync(fd);
