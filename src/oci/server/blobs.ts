import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { isDigest, type Digest } from '../../core/digest.ts';
import type { LayoutStore } from '../layout.ts';
import { ApiError, matchesTag, parseRange, sendEmpty, type Exchange } from './http.ts';
import type { Manifests } from './manifests.ts';

/** Bytes that are read from disk at a time, and so the most that waits for a slow client. */
const PIECE = 512 * 1024;

/** `/v2/<name>/blobs/<digest>`. */
export class Blobs {
  readonly #layout: LayoutStore;
  readonly #manifests: Manifests;

  constructor(layout: LayoutStore, manifests: Manifests) {
    this.#layout = layout;
    this.#manifests = manifests;
  }

  async get(exchange: Exchange, text: string): Promise<void> {
    const digest = checkDigest(text);
    const size = await this.#layout.blobs.size(digest);
    if (size === undefined) throw unknown(digest);
    const { request, response, method, signal } = exchange;
    const headers = {
      'Content-Type': 'application/octet-stream',
      'Docker-Content-Digest': digest,
      ETag: `"${digest}"`,
      'Accept-Ranges': 'bytes',
      'Cache-Control': 'max-age=31536000, immutable',
    };
    if (matchesTag(request.headers['if-none-match'], digest)) return sendEmpty(exchange, 304, headers);
    const condition = request.headers['if-range'];
    const ranged = method === 'GET' && (condition === undefined || condition === `"${digest}"`);
    const range = ranged ? parseRange(request.headers.range, size) : undefined;
    if (range === 'unsatisfiable') {
      throw new ApiError(416, 'RANGE_INVALID', `range is outside of ${size} bytes`, { headers: { 'Content-Range': `bytes */${size}` } });
    }
    const { start, end } = range ?? { start: 0, end: size };
    response.writeHead(range ? 206 : 200, {
      ...headers,
      'Content-Length': end - start,
      ...(range && { 'Content-Range': `bytes ${start}-${end - 1}/${size}` }),
    });
    if (method === 'HEAD' || start === end) {
      response.end();
      return;
    }
    const file = createReadStream(this.#layout.blobs.path(digest), { start, end: end - 1, highWaterMark: Math.min(PIECE, end - start) });
    file.on('data', (part) => {
      exchange.meter.sent += part.length;
    });
    // A file that has become shorter must not end the answer as if all were said: the promised length is cut off visibly.
    file.once('end', () => {
      if (file.bytesRead < end - start) response.destroy();
    });
    await pipeline(file, response, { signal });
  }

  /** Only what no listed image needs: all repositories share one copy. */
  async remove(exchange: Exchange, text: string): Promise<void> {
    const digest = checkDigest(text);
    if ((await this.#layout.blobs.size(digest)) === undefined) throw unknown(digest);
    const user = await this.#manifests.userOf(digest, exchange.signal);
    if (user !== undefined) throw new ApiError(405, 'UNSUPPORTED', `blob is in use by manifest ${user}`);
    if (!(await this.#layout.blobs.remove(digest))) throw unknown(digest);
    this.#layout.documents.forget(digest);
    sendEmpty(exchange, 202);
  }
}

export function checkDigest(text: string | null | undefined): Digest {
  if (isDigest(text)) return text;
  throw new ApiError(400, 'DIGEST_INVALID', 'not a sha256 or sha512 digest');
}

function unknown(digest: Digest): ApiError {
  return new ApiError(404, 'BLOB_UNKNOWN', 'blob is not stored here', { detail: { digest } });
}
