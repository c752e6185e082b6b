import { rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import * as z from 'zod';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { Channel } from './channel.ts';
import { RemoteError, sendable, type SentError } from './messages.ts';

/** What a daemon does when asked over its control socket, which only its own user can reach. */
const controlRequest = z.discriminatedUnion('verb', [
  z.strictObject({ verb: z.literal('status') }),
  /** Fetches ahead: what the image names, or what these patterns match, or everything. Answers when it is done. */
  z.strictObject({ verb: z.literal('prefetch'), paths: z.array(z.string().max(65_536)), all: z.boolean() }),
  /** Another daemon takes over: after an upgrade, without unmounting. */
  z.strictObject({ verb: z.literal('restart') }),
  /** Unmounts and ends. `lazy`: users may stay, and it ends when they have left. `force`: they get errors. */
  z.strictObject({ verb: z.literal('stop'), how: z.enum(['clean', 'lazy', 'force']) }),
]);

export type ControlRequest = z.infer<typeof controlRequest>;

export type ControlAnswer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: SentError };

/** For answers that are being made when the server closes. */
const CLOSE_MS = 500;

export interface ControlServer {
  close(): Promise<void>;
}

/** Answers one request after the other on each connection. Another server's socket of that name is replaced. */
export async function serveControl(path: string, handle: (request: ControlRequest) => Promise<unknown>): Promise<ControlServer> {
  rmSync(path, { force: true });
  const open = new Set<Socket>();
  const answers = new Set<Promise<unknown>>();
  const noted = (request: ControlRequest): Promise<unknown> => {
    const value = handle(request);
    // One turn more, for the answer to be written.
    const over = value.then(() => new Promise(setImmediate), () => new Promise(setImmediate));
    answers.add(over);
    void over.then(() => answers.delete(over));
    return value;
  };
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    void answer(new Channel<ControlAnswer, unknown>(socket), noted);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(wrapError(error, 'IO', 'cannot listen on the control socket', { path })));
    server.listen(path, () => resolve());
  });
  return {
    async close() {
      // Node takes the socket's name away with it.
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      // Answers that are on their way still arrive: who asks for the end wants to hear of it.
      await Promise.race([Promise.all(answers), wait(CLOSE_MS)]);
      for (const socket of open) socket.end(() => socket.destroy());
      await closed;
    },
  };
}

async function answer(channel: Channel<ControlAnswer, unknown>, handle: (request: ControlRequest) => Promise<unknown>): Promise<void> {
  try {
    for (let line = await channel.receive(); line !== undefined; line = await channel.receive()) {
      try {
        const request = controlRequest.safeParse(line);
        if (!request.success) throw new LazypullError('USAGE', 'this request is not known');
        channel.send({ ok: true, value: (await handle(request.data)) ?? null });
      } catch (error) {
        channel.send({ ok: false, error: sendable(error) });
      }
    }
  } catch {
    // Not our protocol: the connection is closed already.
  } finally {
    await channel.close();
  }
}

/** Asks a daemon. RemoteError when it says no; IO when nobody answers within `timeoutMs`. */
export async function askControl(path: string, request: ControlRequest, timeoutMs: number): Promise<unknown> {
  const socket = connect(path);
  const silent = (cause?: unknown): LazypullError => new LazypullError('IO', 'the process that serves the mount does not answer', { path, ...(cause === undefined ? {} : { cause }) });
  const timer = setTimeout(() => socket.destroy(silent()), timeoutMs);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', (error) => reject(silent(error)));
    });
    const channel = new Channel<ControlRequest, ControlAnswer>(socket);
    channel.send(request);
    const reply = await channel.receive();
    if (!reply) throw silent();
    if (!reply.ok) throw new RemoteError(reply.error);
    return reply.value;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
