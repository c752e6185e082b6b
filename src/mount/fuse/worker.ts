import { readSync, writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { LazypullError } from '../../core/errors.ts';
import { ErofsView } from '../../erofs/view.ts';
import { ERRNO, errnoName, loadNative, POLL, type Native } from '../native.ts';
import type { Served } from '../types.ts';
import { Counters } from './counters.ts';
import { DeviceNodes } from './devices.ts';
import { LocalContent, type ReadAt } from './local.ts';
import { Server, type MissedRead } from './server.ts';
import { TreeNodes } from './tree.ts';

/** How serving ended: by an unmount, by an abort of the connection, or because it was told to. */
export type SessionEnd = 'unmounted' | 'aborted' | 'closed';

export interface WorkerJob {
  /** /dev/fuse. */
  readonly fd: number;
  /** Readable when the thread is to look at `stop`; undefined without koffi. */
  readonly wake: number | undefined;
  readonly served: Served;
  /** One 32-bit number: 1 ends the loop. */
  readonly stop: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
}

/** What the thread says. */
export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'miss'; readonly read: MissedRead }
  | { readonly kind: 'interrupt'; readonly unique: bigint }
  | { readonly kind: 'problem'; readonly code: LazypullError['code']; readonly message: string; readonly opcode: number; readonly node: number }
  | { readonly kind: 'failed'; readonly code: LazypullError['code']; readonly message: string }
  | { readonly kind: 'end'; readonly why: SessionEnd };

/** Of one thread: a mount with bad metadata must not fill the log. */
const MAX_PROBLEMS = 100;
/** Without koffi a non-blocking device can only be asked again; milliseconds. */
const RETRY = 1;

/** The two ways to talk to the device: results are byte counts or negative errnos. */
interface Device {
  read(target: Uint8Array): number;
  write(bytes: Uint8Array): number;
  /** Returns when there may be something to read. */
  wait(): void;
  readonly readAt: ReadAt;
}

function nativeDevice(native: Native, fd: number, wake: number): Device {
  const fds = [{ fd, events: POLL.in }, { fd: wake, events: POLL.in }];
  return {
    read: (target) => native.read(fd, target),
    write: (bytes) => native.write(fd, bytes),
    wait: () => void native.poll(fds, -1),
    readAt: (file, target, offset) => native.pread(file, target, offset),
  };
}

function plainDevice(fd: number, stop: Int32Array): Device {
  const errno = (run: () => number): number => {
    try {
      return run();
    } catch (error) {
      const { errno: number } = error as NodeJS.ErrnoException;
      if (number === undefined) throw error;
      return number;
    }
  };
  return {
    read: (target) => errno(() => readSync(fd, target)),
    write: (bytes) => errno(() => writeSync(fd, bytes)),
    wait: () => void Atomics.wait(stop, 0, 0, RETRY),
    readAt: (file, target, offset) => errno(() => readSync(file, target, 0, target.length, offset)),
  };
}

/** Serves until the connection ends. Nothing that a request leads to ends it. */
function loop(server: Server, device: Device, stop: Int32Array, problem: (error: unknown) => void): SessionEnd {
  while (Atomics.load(stop, 0) === 0) {
    const got = device.read(server.request);
    if (got > 0) {
      const size = server.handle(got);
      if (size > 0) send(server, device, size, problem);
    } else if (got === -ERRNO.EAGAIN) {
      device.wait();
    } else if (got === -ERRNO.ENODEV || got === 0) {
      return 'unmounted';
    } else if (got === -ERRNO.ECONNABORTED) {
      return 'aborted';
    } else if (got !== -ERRNO.EINTR && got !== -ERRNO.ENOENT) {
      throw new LazypullError('IO', `/dev/fuse cannot be read: ${errnoName(-got)}`);
    }
  }
  return 'closed';
}

function send(server: Server, device: Device, size: number, problem: (error: unknown) => void): void {
  const written = device.write(server.reply.bytes.subarray(0, size));
  // ENOENT: nobody waits for it any more.
  if (written >= 0 || written === -ERRNO.ENOENT) return;
  problem(new LazypullError('INTERNAL', `a reply of ${size} bytes was refused: ${errnoName(-written)}`));
  // Somebody still waits.
  device.write(server.reply.bytes.subarray(0, server.fail(ERRNO.EIO)));
}

async function main({ fd, wake, served, stop, counters }: WorkerJob): Promise<void> {
  const post = (message: WorkerMessage): void => parentPort?.postMessage(message);
  try {
    const native = wake === undefined ? undefined : loadNative();
    const stopped = new Int32Array(stop);
    const device = native && wake !== undefined ? nativeDevice(native, fd, wake) : plainDevice(fd, stopped);
    const nodes = served.shape === 'tree' ? new TreeNodes(await ErofsView.open(new Uint8Array(served.metadata))) : new DeviceNodes(served);
    let problems = 0;
    const problem = (error: unknown, opcode = 0, node = 0): void => {
      problems += 1;
      if (problems <= MAX_PROBLEMS) post({ kind: 'problem', ...describe(error), opcode, node });
    };
    const hooks = { miss: (read: MissedRead) => post({ kind: 'miss', read }), interrupt: (unique: bigint) => post({ kind: 'interrupt', unique }), problem };
    const server = new Server(nodes, new LocalContent(served, device.readAt), new Counters(counters), hooks);
    post({ kind: 'ready' });
    post({ kind: 'end', why: loop(server, device, stopped, problem) });
  } catch (error) {
    post({ kind: 'failed', ...describe(error) });
  }
}

/** What of an error gets over to another thread. */
function describe(error: unknown): { readonly code: LazypullError['code']; readonly message: string } {
  return error instanceof LazypullError ? { code: error.code, message: error.message } : { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

// It takes a while to load, and may be started before there is anything to serve.
loadNative();
parentPort?.once('message', (job: WorkerJob) => void main(job));
