import { verified } from '../core/digest.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { takeRoom } from '../core/room.ts';
import { checkRange, MemorySource } from '../core/source.ts';
import { streamOf } from '../core/stream.ts';
import type { ByteSource, ByteStream, Descriptor } from '../core/types.ts';
import { explain, HttpError, isStatus, safeUrl } from './http-error.ts';
import { parseContentRange } from './http-headers.ts';
import type { WireResponse } from './http-transport.ts';
import type { RepositoryClient } from './repository.ts';

/** Bytes of progress that make up for a failure: a transfer that gets on may fail any number of times. */
const PROGRESS = 1024 * 1024;
/** One read is held in memory; larger ones are a mistake or a lie. */
const READ_LIMIT = 1024 * 1024 * 1024;

/** Streams a blob, checked against its descriptor; after a cut connection it goes on from where it was. */
export function fetchBlob(repository: RepositoryClient, descriptor: Descriptor, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const content = inlineContent(descriptor);
  const stream = content ? streamOf(content) : received(repository, descriptor, signal);
  return verified(stream, descriptor, describeBlob(repository, descriptor));
}

/** Ranged reads of a blob; nothing is requested before the first one. */
export function openBlob(connect: (signal: AbortSignal | undefined) => Promise<RepositoryClient>, descriptor: Descriptor): ByteSource {
  const content = inlineContent(descriptor);
  if (content) return verifiedSource(content, descriptor);
  return {
    size: descriptor.size,
    fresh: true,
    async read(offset, length, signal) {
      checkRange(descriptor, offset, length, `read of blob ${descriptor.digest}`);
      if (length === 0) return new Uint8Array(0);
      if (length > READ_LIMIT) throw new LazypullError('LIMIT', `a read of ${length} bytes is too large, ${READ_LIMIT} is the most`, { offset });
      const repository = await connect(signal);
      try {
        return await repository.http.run(() => readRange(repository, descriptor, offset, length, signal), signal);
      } catch (error) {
        throw notFound(error, repository, descriptor);
      }
    },
  };
}

async function* received(repository: RepositoryClient, descriptor: Descriptor, signal: AbortSignal | undefined): ByteStream {
  const { retrier } = repository.http;
  let at = 0;
  let mark = 0;
  for (let failures = 0; ; failures++) {
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
      if (at > 0 && at === descriptor.size && error instanceof HttpError) return;
      if (at - mark >= PROGRESS) failures = 0;
      mark = at;
      await retrier.pause(notFound(error, repository, descriptor), failures, signal);
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

/** `data` of a descriptor (image-spec 1.1), if it is base64 of the promised length; the digest is checked where it is used. */
export function inlineContent({ data, size }: Descriptor): Uint8Array | undefined {
  if (typeof data !== 'string' || data.length !== 4 * Math.ceil(size / 3)) return undefined;
  const bytes = Buffer.from(data, 'base64');
  return bytes.length === size && bytes.toString('base64') === data ? bytes : undefined;
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
