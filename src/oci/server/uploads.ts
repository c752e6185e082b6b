import { randomUUID } from 'node:crypto';
import type { Digest } from '../../core/digest.ts';
import { digestOf, isDigest } from '../../core/digest.ts';
import { LazypullError } from '../../core/errors.ts';
import type { TempBlob } from '../layout-blobs.ts';
import type { LayoutStore } from '../layout.ts';
import { checkDigest } from './blobs.ts';
import { ApiError, bodyOf, sendEmpty, type Exchange } from './http.ts';

/** Sessions at a time; each holds a file open. */
const SESSIONS = 256;
const EMPTY = digestOf();

interface Session {
  readonly id: string;
  readonly repository: string;
  readonly temp: TempBlob;
  used: number;
  /** The last request's work: a client that reconnects waits until its lost request is over. */
  turn: Promise<unknown>;
  waiting: number;
}

/** `/v2/<name>/blobs/uploads/`: bytes on their way into the layout, in temporary files. */
export class Uploads {
  readonly #layout: LayoutStore;
  readonly #sessions = new Map<string, Session>();
  readonly #idle: number;
  readonly #timer: NodeJS.Timeout;
  #opening = 0;

  /** `idle`: ms after which a session that nobody uses is dropped. */
  constructor(layout: LayoutStore, idle: number) {
    this.#layout = layout;
    this.#idle = idle;
    this.#timer = setInterval(() => void this.#expire(), Math.max(10, Math.min(idle / 4, 60_000)));
    this.#timer.unref();
  }

  /** POST: a mount, a whole upload in one request, or a new session. */
  async start(exchange: Exchange, repository: string): Promise<void> {
    const { query } = exchange;
    const mount = query.get('mount');
    if (mount !== null && isDigest(mount) && (await this.#layout.blobs.size(mount)) !== undefined) return created(exchange, repository, mount);
    const digest = query.get('digest');
    // A client that does not know this short form sends the digest too early, and no body: it wants a session.
    const whole = digest !== null && (hasBody(exchange) || digest === EMPTY);
    if (digest !== null) checkDigest(digest);
    const session = await this.#open(repository);
    if (!whole) return sendEmpty(exchange, 202, progress(session));
    try {
      await this.#finish(exchange, session, digest as Digest);
    } catch (error) {
      // Nobody knows this session's name, so nobody will go on with it.
      await this.#drop(session);
      throw error;
    }
  }

  /** PATCH: a chunk, whose `Content-Range` must continue where the last one ended, or a stream of unknown length. */
  async append(exchange: Exchange, repository: string, id: string): Promise<void> {
    await this.#use(repository, id, async (session) => {
      await receive(exchange, session);
      sendEmpty(exchange, 202, progress(session));
    });
  }

  /** PUT: the end, perhaps with the last or only chunk. */
  async finish(exchange: Exchange, repository: string, id: string): Promise<void> {
    const digest = checkDigest(exchange.query.get('digest'));
    await this.#use(repository, id, (session) => this.#finish(exchange, session, digest));
  }

  async status(exchange: Exchange, repository: string, id: string): Promise<void> {
    await this.#use(repository, id, async (session) => sendEmpty(exchange, 204, progress(session)));
  }

  async cancel(exchange: Exchange, repository: string, id: string): Promise<void> {
    await this.#use(repository, id, async (session) => {
      await this.#drop(session);
      sendEmpty(exchange, 204);
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([...this.#sessions.values()].map((session) => this.#drop(session)));
  }

  async #open(repository: string): Promise<Session> {
    if (this.#sessions.size + this.#opening >= SESSIONS) throw new ApiError(429, 'TOOMANYREQUESTS', 'too many uploads are open', { headers: { 'Retry-After': '10' } });
    this.#opening += 1;
    try {
      await this.#layout.index.create();
      const temp = await this.#layout.blobs.create();
      const session: Session = { id: randomUUID(), repository, temp, used: Date.now(), turn: Promise.resolve(), waiting: 0 };
      this.#sessions.set(session.id, session);
      return session;
    } finally {
      this.#opening -= 1;
    }
  }

  async #use(repository: string, id: string, work: (session: Session) => Promise<void>): Promise<void> {
    const session = this.#sessions.get(id);
    if (session?.repository !== repository) throw unknownUpload();
    session.waiting += 1;
    const mine = session.turn.then(async () => {
      if (!this.#sessions.has(id)) throw unknownUpload();
      try {
        await work(session);
      } catch (error) {
        // A file that could not be written (no space) has lost bytes: nobody may go on with it.
        if (error instanceof LazypullError) await this.#drop(session);
        throw error;
      }
    });
    session.turn = mine.catch(() => undefined);
    try {
      await mine;
    } finally {
      session.waiting -= 1;
      session.used = Date.now();
    }
  }

  async #finish(exchange: Exchange, session: Session, digest: Digest): Promise<void> {
    // A body that breaks off leaves the session as it is; after that it ends, whatever the outcome.
    await receive(exchange, session);
    this.#sessions.delete(session.id);
    try {
      await session.temp.commit(digest);
    } catch (error) {
      if (error instanceof LazypullError && error.code === 'DIGEST_MISMATCH') throw new ApiError(400, 'DIGEST_INVALID', error.message);
      throw error;
    } finally {
      await session.temp.discard();
    }
    created(exchange, session.repository, digest);
  }

  async #expire(): Promise<void> {
    const limit = Date.now() - this.#idle;
    for (const session of this.#sessions.values()) if (session.waiting === 0 && session.used < limit) await this.#drop(session);
  }

  async #drop(session: Session): Promise<void> {
    this.#sessions.delete(session.id);
    await session.temp.discard();
  }
}

/** Appends the body. Bytes that have arrived stay when the connection breaks: the client asks how many and goes on. */
async function receive(exchange: Exchange, session: Session): Promise<void> {
  const { request } = exchange;
  const range = contentRange(request.headers['content-range']);
  const outOfPlace = { headers: progress(session) };
  if (range && range.start !== session.temp.size) throw new ApiError(416, 'BLOB_UPLOAD_INVALID', `chunk starts at ${range.start}, ${session.temp.size} bytes are here`, outOfPlace);
  const length = range && range.end - range.start;
  const announced = request.headers['content-length'];
  if (length !== undefined && announced !== undefined && Number(announced) !== length) throw new ApiError(400, 'SIZE_INVALID', `Content-Range has ${length} bytes, Content-Length ${announced}`);
  let left = length ?? Number.POSITIVE_INFINITY;
  for await (const part of bodyOf(exchange)) {
    left -= part.length;
    if (left < 0) throw new ApiError(400, 'SIZE_INVALID', 'chunk is longer than its Content-Range');
    await session.temp.write(part);
  }
  if (length !== undefined && left > 0) throw new ApiError(400, 'SIZE_INVALID', `chunk is ${left} bytes shorter than its Content-Range`);
}

/** `a-b`, inclusive; `bytes a-b/n` is taken, too. */
function contentRange(header: string | undefined): { start: number; end: number } | undefined {
  if (header === undefined) return undefined;
  const [, first, last] = /^(?:bytes[ =])?(\d{1,16})-(\d{1,16})(?:\/(?:\d+|\*))?$/.exec(header.trim()) ?? [];
  const range = { start: Number(first), end: Number(last) + 1 };
  if (first === undefined || range.end <= range.start) throw new ApiError(416, 'BLOB_UPLOAD_INVALID', 'Content-Range is not first-last');
  return range;
}

function hasBody({ request }: Exchange): boolean {
  return request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
}

/** Nothing yet and one byte look the same, `0-0`, here and in other registries. */
function progress({ id, repository, temp }: Session): Record<string, string> {
  return { Location: `/v2/${repository}/blobs/uploads/${id}`, Range: `0-${Math.max(temp.size - 1, 0)}`, 'Docker-Upload-UUID': id };
}

function created(exchange: Exchange, repository: string, digest: Digest): void {
  sendEmpty(exchange, 201, { Location: `/v2/${repository}/blobs/${digest}`, 'Docker-Content-Digest': digest });
}

function unknownUpload(): ApiError {
  return new ApiError(404, 'BLOB_UPLOAD_UNKNOWN', 'no such upload');
}
