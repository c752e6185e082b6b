import { verified } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { takeRoom } from '../core/room.ts';
import { checkRange, MemorySource } from '../core/source.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor } from '../core/types.ts';
import { explain, HttpError, isStatus, safeUrl } from './http-error.ts';
import { parseContentRange } from './http-headers.ts';
import type { WireResponse } from './http-transport.ts';
import { inlineContent } from './inline-content.ts';
import type { RepositoryClient } from './repository.ts';
import { Failures, type Sources } from './sources.ts';

/** Bytes of progress that make up for a failure: a transfer that gets on may fail any number of times. */
const PROGRESS = 1024 * 1024;
/** Blobs that are held in memory until they have proved right, where there are several places that have them. */
const COLLECTED = 4 * 1024 * 1024;
/** One read is held in memory; larger ones are a mistake or a lie. */
const READ_LIMIT = 1024 * 1024 * 1024;

/** Streams a blob, checked against its descriptor; after a cut connection it goes on from where it was, somewhere else if need be. */
export async function* fetchBlob(sources: Sources, descriptor: Descriptor, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const { digest, size } = descriptor;
  const content = inlineContent(descriptor);
  const what = `blob ${digest} of ${sources.location}`;
  if (content) {
    yield* verified(streamOf(content), descriptor, what);
  } else if (size <= COLLECTED && (await sources.inOrder('content', digest, signal)).length > 1) {
    // What turns out to be wrong at its end can still be had elsewhere.
    yield await sources.ask('content', digest, ({ repository }) => collect(verified(new Reception(repository, descriptor, signal).from(0), descriptor, what), size, what), signal);
  } else {
    try {
      yield* verified(received(sources, descriptor, signal), descriptor, what);
    } catch (error) {
      if (error instanceof LazypullError && error.code === 'DIGEST_MISMATCH') sources.distrust(digest, 0, size);
      throw error;
    }
  }
}

/** Ranged reads of a blob; nothing is requested before the first one. */
export function openBlob(sources: Sources, descriptor: Descriptor): ByteSource {
  const content = inlineContent(descriptor);
  if (content) return verifiedSource(content, descriptor);
  const { digest, size } = descriptor;
  return {
    size,
    fresh: true,
    async read(offset, length, signal) {
      checkRange(descriptor, offset, length, `read of blob ${digest}`);
      if (length === 0) return new Uint8Array(0);
      if (length > READ_LIMIT) throw new LazypullError('LIMIT', `a read of ${length} bytes is too large, ${READ_LIMIT} is the most`, { offset });
      return sources.ask('content', digest, async ({ repository }) => {
        try {
          return await repository.http.run(() => readRange(repository, descriptor, offset, length, signal), signal);
        } catch (error) {
          throw notFound(error, repository, descriptor);
        }
      }, signal, { offset, length });
    },
    distrust: (offset, length) => sources.distrust(digest, offset, length),
  };
}

/** The blob from the first place that has it; from the next one when that fails in the middle. */
async function* received(sources: Sources, descriptor: Descriptor, signal: AbortSignal | undefined): ByteStream {
  const failures = new Failures();
  let at = 0;
  for (const candidate of await sources.inOrder('content', descriptor.digest, signal)) {
    const began = at;
    try {
      const { repository } = await candidate.source.connect(signal);
      for await (const bytes of new Reception(repository, descriptor, signal).from(at)) {
        at += bytes.length;
        yield bytes;
      }
      candidate.answered(began, descriptor.size);
      return;
    } catch (error) {
      if (at > began) candidate.answered(began, at);
      candidate.failed(error, signal);
      failures.add(candidate.source, error);
    }
  }
  throw failures.error();
}

/** A blob on its way from one place, however often the connection is cut. */
class Reception {
  readonly #repository: RepositoryClient;
  readonly #descriptor: Descriptor;
  readonly #signal: AbortSignal | undefined;

  constructor(repository: RepositoryClient, descriptor: Descriptor, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#descriptor = descriptor;
    this.#signal = signal;
  }

  async *from(start: number): ByteStream {
    const repository = this.#repository;
    const descriptor = this.#descriptor;
    const signal = this.#signal;
    const { http } = repository;
    let at = start;
    let mark = start;
    for (let failures = 0; ; failures++) {
      const began = http.health.now();
      try {
        const response = await requestFrom(repository, descriptor, at, signal);
        // A server that ignores the range sends from the start; the digest will tell if it sends something else.
        let skip = response.status === 200 ? at : 0;
        for await (const bytes of response.body) {
          const fresh = skip === 0 ? bytes : bytes.subarray(Math.min(skip, bytes.length));
          skip -= bytes.length - fresh.length;
          if (fresh.length === 0) continue;
          at += fresh.length;
          yield fresh;
        }
        if (at >= descriptor.size || isFramed(response)) return;
        throw cut(response);
      } catch (error) {
        if (at > start && at === descriptor.size && error instanceof HttpError) return;
        if (at - mark >= PROGRESS) failures = 0;
        mark = at;
        await http.pause(notFound(error, repository, descriptor), failures, began, signal);
      }
    }
  }
}

async function requestFrom(repository: RepositoryClient, descriptor: Descriptor, at: number, signal: AbortSignal | undefined): Promise<WireResponse> {
  const { digest, size } = descriptor;
  try {
    const response = await repository.http.stream({
      method: 'GET', url: repository.url(`blobs/${digest}`), scopes: repository.pull, signal, blob: digest,
      ...(at === 0 ? {} : { headers: { range: `bytes=${at}-${size - 1}` } }),
      expect: at === 0 ? [200] : [200, 206],
    });
    try {
      if (response.status === 206) checkContentRange(response, at, size - at, size);
      else checkLength(response, descriptor);
    } catch (error) {
      await response.body.return();
      throw error;
    }
    return response;
  } catch (error) {
    throw rangeRefused(error, descriptor);
  }
}

async function readRange(repository: RepositoryClient, descriptor: Descriptor, offset: number, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const { digest, size } = descriptor;
  const whole = length === size;
  let response: WireResponse;
  try {
    response = await repository.http.stream({
      method: 'GET', url: repository.url(`blobs/${digest}`), scopes: repository.pull, signal, blob: digest,
      ...(whole ? {} : { headers: { range: `bytes=${offset}-${offset + length - 1}` } }),
      expect: whole ? [200] : [200, 206],
    });
  } catch (error) {
    throw rangeRefused(error, descriptor);
  }
  try {
    let skip = 0;
    if (response.status === 206) {
      checkContentRange(response, offset, length, size);
    } else {
      checkLength(response, descriptor);
      skip = offset;
      if (!whole) repository.warn(`${response.url.host} ignores ranges: every read transfers the blob from its start`);
    }
    return await gather(response, skip, length);
  } finally {
    await response.body.return();
  }
}

/** Exactly `length` bytes behind the first `skip`. */
async function gather(response: WireResponse, skip: number, length: number): Promise<Uint8Array> {
  const bytes = takeRoom(length);
  let left = skip;
  let at = 0;
  for await (const part of response.body) {
    const fresh = left === 0 ? part : part.subarray(Math.min(left, part.length));
    left -= part.length - fresh.length;
    const take = Math.min(fresh.length, length - at);
    bytes.set(take === fresh.length ? fresh : fresh.subarray(0, take), at);
    at += take;
    if (fresh.length > take && response.status === 206) throw corrupt(`more than the ${length} bytes asked for came back`, { path: safeUrl(response.url) });
    if (at === length && response.status === 200) break;
  }
  if (at === length) return bytes;
  if (!isFramed(response)) throw cut(response);
  throw new LazypullError('SIZE_MISMATCH', `${length} bytes were asked for, ${at} came back`, { path: safeUrl(response.url) });
}

/** RFC 9110 §14.4: what came must be what was asked for, of a blob of the size that the descriptor says. */
function checkContentRange(response: WireResponse, offset: number, length: number, size: number): void {
  const { headers, url } = response;
  const text = headers.get('content-range');
  const range = parseContentRange(text);
  const fits = range && range.start === offset && range.end === offset + length && (range.total ?? size) === size;
  if (fits && (headers.contentLength ?? length) === length) return;
  const code = range?.total !== undefined && range.total !== size ? 'SIZE_MISMATCH' : 'CORRUPT';
  const got = range ? `bytes ${range.start}-${range.end - 1}/${range.total ?? '*'}` : text === undefined ? 'no Content-Range' : 'a malformed Content-Range';
  throw new LazypullError(code, `bytes ${offset}-${offset + length - 1}/${size} were asked for, the answer has ${got}`, { path: safeUrl(url), offset });
}

function checkLength(response: WireResponse, descriptor: Descriptor): void {
  const { contentLength } = response.headers;
  if (contentLength === undefined || contentLength === descriptor.size) return;
  const how = contentLength > descriptor.size ? 'is longer than' : 'ends early: it is shorter than';
  throw new LazypullError('SIZE_MISMATCH', `blob ${descriptor.digest} ${how} the ${descriptor.size} bytes of its descriptor: ${contentLength} bytes`, {
    path: safeUrl(response.url),
  });
}

/** 416: the blob ends before the range begins. */
function rangeRefused(error: unknown, descriptor: Descriptor): unknown {
  if (!isStatus(error, 416)) return error;
  return new LazypullError('SIZE_MISMATCH', `blob ${descriptor.digest} is shorter than the ${descriptor.size} bytes of its descriptor`, {
    path: error.path ?? '', cause: error,
  });
}

/** Whether the end of the body is told apart from the end of the connection. */
function isFramed({ headers }: WireResponse): boolean {
  return headers.contentLength !== undefined || /\bchunked\b/i.test(headers.get('transfer-encoding') ?? '');
}

function cut({ url }: WireResponse): HttpError {
  return new HttpError('NETWORK', 'GET failed: the connection was cut', { path: safeUrl(url), retryable: true });
}

function notFound(error: unknown, repository: RepositoryClient, descriptor: Descriptor): unknown {
  return isStatus(error, 404) ? explain(error, `${describeBlob(repository, descriptor)} is not there, or there is no access to it`) : error;
}

function describeBlob(repository: RepositoryClient, descriptor: Descriptor): string {
  return `blob ${descriptor.digest} of ${repository.location}`;
}

function verifiedSource(content: Uint8Array, descriptor: Descriptor): ByteSource {
  const source = new MemorySource(content);
  let checked = false;
  return {
    size: descriptor.size,
    fresh: true,
    async read(offset, length, signal) {
      if (!checked) for await (const _ of verified(streamOf(content), descriptor, `data of descriptor ${descriptor.digest}`)) continue;
      checked = true;
      return source.read(offset, length, signal);
    },
  };
}
