import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import type { Socket } from 'node:net';
import { LazypullError } from '../../core/errors.ts';
import { Channel } from './channel.ts';
import { PIPE_FD, type Order } from './messages.ts';

export interface Spawned<Sent, Received> {
  readonly child: ChildProcess;
  readonly channel: Channel<Sent, Received>;
}

export interface SpawnOptions {
  /** Command and first arguments. */
  readonly program: readonly string[];
  /** What it is to do; it may be sent later, as its first line. */
  readonly order?: Order;
  /** Passed on as FUSE_FD. */
  readonly fuse?: number;
  /** Standard output and error: a descriptor, or this process' own. */
  readonly output: number | 'inherit' | 'ignore';
}

/** Of glibc, for processes that live as long as a mount: buffers of a read go back to the system, and threads share what they free. */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: '262144', MALLOC_ARENA_MAX: '2' };

/**
 * Starts a process of a mount: in a session of its own, so that no signal of a terminal reaches it, and in `/`, so that it
 * keeps no folder busy. It is not waited for.
 */
export function spawnProcess<Sent, Received>({ program, order, fuse, output }: SpawnOptions): Spawned<Sent, Received> {
  const [command, ...args] = program;
  if (command === undefined) throw new LazypullError('INTERNAL', 'no program to start');
  const stdio: StdioOptions = ['ignore', output, output, fuse ?? 'ignore', 'pipe'];
  const child = spawn(command, args, { detached: true, cwd: '/', stdio, env: { ...process.env, ...ALLOCATOR } });
  // Who listens to the channel sees its end; this one is for processes that cannot be started at all.
  child.once('error', () => (child.stdio[PIPE_FD] as Socket | null)?.destroy());
  const socket = child.stdio[PIPE_FD] as Socket | undefined;
  if (!socket) throw new LazypullError('IO', `cannot start ${command}`);
  child.unref();
  const channel = new Channel<Sent | Order, Received>(socket);
  if (order) channel.send(order);
  return { child, channel: channel as Channel<Sent, Received> };
}
