import { randomUUID } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import * as z from 'zod';
import { removeFile, replaceFile, type CacheFolder } from './folder.ts';
import { isReachable, PeerServer, type HoldRanges } from './peers.ts';

const shape = z.object({
  pid: z.number().int().positive(),
  start: z.string(),
  host: z.string(),
  /** Which numbering of processes `pid` is of. */
  namespace: z.string(),
  devices: z.array(z.string()),
  trees: z.array(z.string()),
});

/** A process that uses a cache, and what of it. */
export type CacheUser = z.output<typeof shape> & {
  /** Its file, without the ending. */
  readonly path: string;
};

const FILE = '.json';
const SOCKET = '.sock';

/** Socket of a user. */
export function socketOf({ path }: Pick<CacheUser, 'path'>): string {
  return `${path}${SOCKET}`;
}

/**
 * This process among the users of a cache: its file says what it uses, and a socket beside it is where others ask it to let
 * go of bytes. Both are gone with the process, or are seen not to belong to one any more.
 */
export class OwnUser {
  readonly path: string;
  readonly #self: Promise<Pick<CacheUser, 'pid' | 'start' | 'host' | 'namespace'>>;
  readonly #server: PeerServer;
  #written = '';

  constructor(folder: CacheFolder, hold: HoldRanges) {
    this.path = folder.path('users', `${process.pid}-${randomUUID()}`);
    this.#self = describeSelf();
    this.#server = new PeerServer(socketOf(this), hold);
  }

  /** Says what is used from now on. To be called with the cache locked, so that nobody removes it in between. */
  async use(devices: readonly string[], trees: readonly string[]): Promise<void> {
    const text = JSON.stringify({ ...(await this.#self), devices: [...devices], trees: [...trees] } satisfies z.output<typeof shape>);
    if (text === this.#written) return;
    if (devices.length > 0) await this.#server.listen();
    await replaceFile(`${this.path}${FILE}`, Buffer.from(text), 'no');
    this.#written = text;
  }

  async close(): Promise<void> {
    await this.#server.close();
    await removeFile(`${this.path}${FILE}`).catch(() => undefined);
  }
}

/** All users that are alive. Files of those that are not are removed. To be called with the cache locked. */
export async function liveUsers(folder: CacheFolder): Promise<readonly CacheUser[]> {
  const users: CacheUser[] = [];
  const self = await describeSelf();
  for (const name of await folder.names('users')) {
    if (!name.endsWith(FILE)) continue;
    const path = folder.path('users', name.slice(0, -FILE.length));
    const user = await readUser(path);
    if (user && (await isAlive(user, self))) {
      users.push(user);
    } else {
      await removeFile(`${path}${FILE}`).catch(() => undefined);
      await removeFile(socketOf({ path })).catch(() => undefined);
    }
  }
  return users;
}

async function readUser(path: string): Promise<CacheUser | undefined> {
  try {
    return { ...shape.parse(JSON.parse(await readFile(`${path}${FILE}`, 'utf8'))), path };
  } catch {
    return undefined;
  }
}

/** Processes of another numbering (another container, another machine) can only be asked. */
async function isAlive(user: CacheUser, self: Awaited<ReturnType<typeof describeSelf>>): Promise<boolean> {
  if (user.host !== self.host || user.namespace !== self.namespace) return isReachable(socketOf(user));
  return (await startOf(user.pid)) === user.start;
}

async function describeSelf(): Promise<Pick<CacheUser, 'pid' | 'start' | 'host' | 'namespace'>> {
  return { pid: process.pid, start: (await startOf(process.pid)) ?? '-', host: hostname(), namespace: await readlink('/proc/self/ns/pid').catch(() => '-') };
}

/** When a process began: its number alone may have been given to another since. Undefined when there is none. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in brackets and may hold anything; field 22 is counted from behind it.
    const [state, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : rest[18];
  } catch {
    try {
      process.kill(pid, 0);
      return '-';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM' ? '-' : undefined;
    }
  }
}
