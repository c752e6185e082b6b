import { once } from 'node:events';
import { open, type FileHandle } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import * as z from 'zod';
import { removeFile } from './folder.ts';

/** Pages [from, to) of a device. */
export interface DeviceRange {
  readonly key: string;
  readonly from: number;
  readonly to: number;
}

/** Lets go of pages: once it resolves they are not read from the file and not written to it, until the result is called. */
export type HoldRanges = (ranges: readonly DeviceRange[]) => Promise<() => void>;

const request = z.object({ hold: z.array(z.object({ key: z.string(), from: z.number(), to: z.number() })) });
const ANSWER = 'held\n';
/** A process that has not answered by then (ms) is busy or stopped, and keeps what it has. */
const PATIENCE = 2000;
/** A request of one device's worth of regions is far shorter. */
const MAX_REQUEST = 16 << 20;
/** sun_path has 108 bytes, the last one a zero. */
const MAX_PATH = 107;

/** The socket on which other processes ask this one to let go of pages, for as long as they keep the connection. */
export class PeerServer {
  readonly #path: string;
  readonly #hold: HoldRanges;
  readonly #sockets = new Set<Socket>();
  #listening: Promise<{ readonly server: Server; readonly folder: FileHandle | undefined } | undefined> | undefined;

  constructor(path: string, hold: HoldRanges) {
    this.#path = path;
    this.#hold = hold;
  }

  /** Without a socket (a file system that has none) nothing that this process uses can be evicted by another. */
  async listen(): Promise<void> {
    await (this.#listening ??= this.#listen().catch(() => undefined));
  }

  async close(): Promise<void> {
    const listening = await this.#listening;
    if (!listening) return;
    for (const socket of this.#sockets) socket.destroy();
    // Node removes the file itself, by a name that may have been short-lived.
    await new Promise((resolve) => void listening.server.close(resolve));
    await removeFile(this.#path).catch(() => undefined);
    await listening.folder?.close();
  }

  async #listen(): Promise<{ readonly server: Server; readonly folder: FileHandle | undefined }> {
    const server = createServer((socket) => void this.#serve(socket));
    const { path, folder } = await shortPath(this.#path);
    server.listen(path);
    await once(server, 'listening');
    // Waiting for others must not keep a process alive.
    server.unref();
    return { server, folder };
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.unref();
    let release: (() => void) | undefined;
    let gone = false;
    socket.on('error', () => undefined);
    socket.on('close', () => {
      gone = true;
      this.#sockets.delete(socket);
      release?.();
    });
    try {
      const line = await firstLine(socket);
      if (line === undefined) return;
      release = await this.#hold(request.parse(JSON.parse(line)).hold);
      if (gone) release();
      else socket.write(ANSWER);
    } catch {
      socket.destroy();
    }
  }
}

/** Reads on behind the line, or the end of the connection would not be noticed. */
function firstLine(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('close', () => resolve(undefined));
    socket.on('data', (bytes: Buffer) => {
      if (text.length > MAX_REQUEST) {
        socket.destroy();
        return;
      }
      text += bytes.toString('latin1');
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
    });
  });
}

/** Asks another process to hold pages. The connection to be closed once that is over; undefined when it did not agree. */
export async function askToHold(path: string, ranges: readonly DeviceRange[]): Promise<{ close(): void } | undefined> {
  const socket = await dial(path);
  if (!socket) return undefined;
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    socket.write(`${JSON.stringify({ hold: ranges })}\n`);
    const [answer] = (await once(socket, 'data', { signal })) as [Buffer];
    if (answer.toString() === ANSWER) return { close: () => void socket.destroy() };
  } catch {
    // No answer is an answer.
  }
  socket.destroy();
  return undefined;
}

/** Whether anybody listens. */
export async function isReachable(path: string): Promise<boolean> {
  const socket = await dial(path);
  socket?.destroy();
  return socket !== undefined;
}

async function dial(path: string): Promise<Socket | undefined> {
  const short = await shortPath(path).catch(() => undefined);
  if (!short) return undefined;
  const socket = connect(short.path);
  socket.on('error', () => undefined);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE) });
    return socket;
  } catch {
    socket.destroy();
    return undefined;
  } finally {
    await short.folder?.close();
  }
}

/** A path that fits into a socket's address: by way of the open folder where the real one is too long. */
async function shortPath(path: string): Promise<{ readonly path: string; readonly folder: FileHandle | undefined }> {
  if (Buffer.byteLength(path) <= MAX_PATH) return { path, folder: undefined };
  const folder = await open(dirname(path), 'r');
  return { path: `/proc/self/fd/${folder.fd}/${basename(path)}`, folder };
}
