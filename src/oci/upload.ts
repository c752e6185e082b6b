import { isDigest, digestAlgorithm, type Digest } from '../core/digest.ts';
import { LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { explain, isStatus, safeUrl } from './http-error.ts';
import { parseCount, parseUploadRange, type ResponseHeaders } from './http-headers.ts';
import type { HttpAnswer } from './http.ts';
import type { RepositoryClient } from './repository.ts';
import { repositoryScope, type Scope } from './scopes.ts';

/** A registry hashes a whole blob before it answers the closing PUT. */
const COMMIT_ANSWER_MS = 300_000;
const CANCEL_MS = 5_000;
/**
 * How long a request of a session may go on after an abort: only its answer tells what there is to cancel. A registry
 * whose request broke off in the middle is out of step with the last location it gave, and may refuse to cancel by it.
 */
const GRACE_MS = 2_000;

/** An upload session (distribution-spec "Pushing blobs"; registry.md §8). */
export class UploadSession {
  readonly #repository: RepositoryClient;
  #location: URL;
  /** Smallest piece that the registry takes, except for the last one; bytes. */
  readonly minChunk: number;
  #over = false;

  constructor(repository: RepositoryClient, answer: HttpAnswer) {
    this.#repository = repository;
    this.#location = locationOf(answer);
    this.minChunk = parseCount(answer.headers.get('oci-chunk-min-length')) ?? 0;
  }

  /** Closes the upload under its digest, with a last or only body. `length` goes with a stream. */
  async commit(digest: Digest, body: Uint8Array | { readonly length: number; stream(): AsyncIterable<Uint8Array> }, signal?: AbortSignal): Promise<void> {
    const answer = await this.#repository.http.exchange({
      method: 'PUT', url: withDigest(this.#location, digest), scopes: this.#repository.push, signal, answerMs: COMMIT_ANSWER_MS,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(body.length) },
      body: body instanceof Uint8Array ? body : () => body.stream(),
      expect: [200, 201, 204],
    });
    this.#over = true;
    const stated = answer.headers.get('docker-content-digest');
    if (isDigest(stated) && digestAlgorithm(stated) === digestAlgorithm(digest) && stated !== digest) {
      throw new LazypullError('DIGEST_MISMATCH', `blob ${digest} was stored as ${stated}`, { path: safeUrl(answer.url) });
    }
  }

  /** Sends the bytes from `offset` on; gives the end (exclusive) that the registry says it has, if it says. */
  async patch(bytes: Uint8Array, offset: number, signal?: AbortSignal): Promise<number | undefined> {
    const answer = await withGrace(signal, (grace) => this.#repository.http.exchange({
      method: 'PATCH', url: this.#location, scopes: this.#repository.push, signal: grace, body: bytes, answerMs: COMMIT_ANSWER_MS,
      headers: {
        'content-type': 'application/octet-stream',
        // No `bytes` in front: the spec's own form.
        'content-range': `${offset}-${offset + bytes.length - 1}`,
      },
      expect: [200, 201, 202, 204],
    }));
    this.#move(answer);
    return parseUploadRange(answer.headers.get('range'));
  }

  /** Asks how far the registry has got. */
  async status(signal?: AbortSignal): Promise<number | undefined> {
    const answer = await this.#repository.http.exchange({
      method: 'GET', url: this.#location, scopes: this.#repository.push, signal, expect: [200, 202, 204],
    });
    this.#move(answer);
    return parseUploadRange(answer.headers.get('range'));
  }

  /** Gives the session up. Best effort, without the caller's signal: that may be the reason. */
  async cancel(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    try {
      await this.#repository.http.exchange({
        method: 'DELETE', url: this.#location, scopes: this.#repository.push, signal: AbortSignal.timeout(CANCEL_MS), expect: [200, 202, 204, 404],
      });
    } catch {
      // The registry drops it by itself after a while.
    }
  }

  /** Only the newest location carries the state that the registry accepts. */
  #move(answer: HttpAnswer): void {
    if (answer.headers.get('location') !== undefined) this.#location = locationOf(answer);
  }
}

/** Opens a session; one try. After an abort its answer is still waited for a moment, so that there is something to cancel. */
export async function startUpload(repository: RepositoryClient, signal?: AbortSignal): Promise<UploadSession> {
  const { http, push, location } = repository;
  try {
    const answer = await withGrace(signal, (grace) => http.exchange({
      method: 'POST', url: repository.url('blobs/uploads/'), scopes: push, signal: grace, body: new Uint8Array(0), expect: [202],
    }));
    return new UploadSession(repository, answer);
  } catch (error) {
    if (isStatus(error, 404)) throw explain(error, `cannot upload to ${location}: the registry may want the repository to be created first`);
    throw explain(error, `cannot upload to ${location}`);
  }
}

/** Asks the registry to take a blob from another of its repositories; a session when it opened one instead. */
export async function mountBlob(repository: RepositoryClient, digest: Digest, from: string, signal?: AbortSignal): Promise<boolean | UploadSession> {
  const { http, push } = repository;
  const url = repository.url('blobs/uploads/');
  url.searchParams.set('mount', digest);
  url.searchParams.set('from', from);
  const scopes: Scope[] = [...push, repositoryScope(from, 'pull')];
  try {
    const answer = await withGrace(signal, (grace) => http.run(() => http.exchange({
      method: 'POST', url, scopes, passing: true, signal: grace, body: new Uint8Array(0), expect: [201, 202],
    }), signal));
    return answer.status === 201 ? true : new UploadSession(repository, answer);
  } catch (error) {
    // Not every registry mounts, and not everyone may read the other repository: then the bytes have to travel.
    if (isStatus(error, 400, 401, 403, 404, 405, 501)) return false;
    if (error instanceof LazypullError && error.code === 'UNAUTHORIZED') return false;
    throw error;
  }
}

/** Whether the repository has a blob. */
export async function hasBlob(repository: RepositoryClient, digest: Digest, scopes: readonly Scope[], signal?: AbortSignal): Promise<boolean> {
  const url = repository.url(`blobs/${digest}`);
  const { status } = await repository.http.ask({ method: 'HEAD', url, scopes, signal, expect: [200, 404, 405, 501] });
  if (status !== 405 && status !== 501) return status === 200;
  const response = await repository.http.stream({ method: 'GET', url, scopes, signal, headers: { range: 'bytes=0-0' }, expect: [200, 206, 404, 416] });
  await response.body.return();
  return response.status !== 404;
}

/** Runs `work` with a signal that follows the given one a little later. */
async function withGrace<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  throwIfAborted(signal);
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => controller.abort(signal?.reason), GRACE_MS);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** `Location` of an upload, relative to where the answer came from. Its query is the registry's own state. */
function locationOf({ headers, url }: { readonly headers: ResponseHeaders; readonly url: URL }): URL {
  const text = headers.get('location') ?? '';
  if (text === '' || !URL.canParse(text, url.href)) throw new LazypullError('NETWORK', 'the registry opened an upload without saying where', { path: safeUrl(url) });
  const location = new URL(text, url);
  if (location.protocol !== url.protocol && location.protocol !== 'https:') {
    throw new LazypullError('NETWORK', `the registry sends uploads from https to ${printable(location.protocol)}//: it does not know its own address`, { path: safeUrl(url) });
  }
  location.username = location.password = location.hash = '';
  return location;
}

/** Appends the digest by hand: URLSearchParams would write the opaque state anew. */
function withDigest(location: URL, digest: Digest): URL {
  const url = new URL(location);
  url.search = `${location.search === '' || location.search === '?' ? '?' : `${location.search}&`}digest=${digest}`;
  return url;
}
