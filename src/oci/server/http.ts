import type { IncomingMessage, ServerResponse } from 'node:http';
import { LazypullError, printable } from '../../core/errors.ts';

/** A refusal that the client is told about (distribution-spec 1.1, error codes). */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: unknown;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, options: { detail?: unknown; headers?: Readonly<Record<string, string>> } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.detail = options.detail;
    this.headers = options.headers ?? {};
  }
}

/** One request and its answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly method: string;
  readonly query: URLSearchParams;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /** Bytes of bodies so far: taken in, and handed to the connection. */
  readonly meter: { received: number; sent: number };
}

export function sendJson(exchange: Exchange, status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  const body = Buffer.from(JSON.stringify(value), 'utf8');
  send(exchange, status, body, { 'Content-Type': 'application/json', ...headers });
}

/** A whole small answer; HEAD gets the headers only. */
export function send({ response, method, meter }: Exchange, status: number, body: Uint8Array, headers: Readonly<Record<string, string>>): void {
  response.writeHead(status, { ...headers, 'Content-Length': body.length });
  if (method !== 'HEAD') meter.sent += body.length;
  response.end(method === 'HEAD' ? undefined : body);
}

export function sendEmpty({ response }: Exchange, status: number, headers: Readonly<Record<string, string>> = {}): void {
  // 204 and 304 have no body and so no length.
  response.writeHead(status, status === 204 || status === 304 ? headers : { ...headers, 'Content-Length': 0 });
  response.end();
}

/** Turns whatever went wrong into an answer, or cuts the connection when the answer has begun. */
export function sendError(exchange: Exchange, error: unknown): void {
  const { response } = exchange;
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const failure = error instanceof ApiError ? error : translate(error);
  const { code, message, detail } = failure;
  sendJson(exchange, failure.status, { errors: [{ code, message, ...(detail !== undefined && { detail }) }] }, failure.headers);
}

/** Paths of this machine stay out of what a client is told. */
function translate(error: unknown): ApiError {
  const code = error instanceof LazypullError ? error.code : 'INTERNAL';
  switch (code) {
    case 'NOT_FOUND':
      return new ApiError(404, 'BLOB_UNKNOWN', 'content is not stored here');
    case 'DIGEST_MISMATCH':
      return new ApiError(500, 'UNKNOWN', 'stored content is damaged');
    case 'LIMIT':
      return new ApiError(413, 'SIZE_INVALID', 'content is too large');
    default:
      return new ApiError(500, 'UNKNOWN', `internal error (${code})`);
  }
}

/** The request's body. Leaving it early does not cut the connection: the client is to read why. */
export async function* bodyOf({ request, meter }: Exchange): AsyncGenerator<Buffer> {
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    meter.received += part.length;
    yield part;
  }
}

/** A request body that must fit into memory; 413 when it is larger than `limit` bytes. */
export async function readBody(exchange: Exchange, limit: number, code: string): Promise<Uint8Array> {
  const tooLarge = new ApiError(413, code, `body is larger than ${limit} bytes`);
  if (Number(exchange.request.headers['content-length'] ?? 0) > limit) throw tooLarge;
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of bodyOf(exchange)) {
    size += part.length;
    if (size > limit) throw tooLarge;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

export interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/**
 * A `Range` header (RFC 9110, 14.2) against a size: undefined when there is none, when it is malformed or when it has
 * several ranges, all of which mean the whole; 'unsatisfiable' for 416.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | 'unsatisfiable' | undefined {
  const [, first, last] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/.exec(header ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? 'unsatisfiable' : { start, end };
}

/** Whether an `If-None-Match` or `If-Match` list names a strong tag (`"<digest>"`), or anything (`*`). */
export function matchesTag(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  return header.split(',').some((one) => ['*', `"${tag}"`, `W/"${tag}"`, tag].includes(one.trim()));
}

/** One page of a sorted list (distribution-spec 1.1, `n` and `last`) and the `Link` to the next. */
export function page(exchange: Exchange, items: readonly string[], path: string): { items: readonly string[]; headers: Record<string, string> } {
  const { query } = exchange;
  const asked = query.get('n');
  if (asked !== null && !/^\d{1,9}$/.test(asked)) throw new ApiError(400, 'PAGINATION_NUMBER_INVALID', `n is not a number: ${printable(asked.slice(0, 20))}`);
  const count = asked === null ? items.length : Number(asked);
  const last = query.get('last');
  const rest = last === null ? items : items.filter((item) => item > last);
  const shown = rest.slice(0, count);
  const end = shown.at(-1);
  const more = end !== undefined && shown.length < rest.length;
  return { items: shown, headers: more ? { Link: `<${path}?n=${count}&last=${encodeURIComponent(end)}>; rel="next"` } : {} };
}
