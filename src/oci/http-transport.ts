import type { Dispatcher } from 'undici';
// The front door loads fetch, web sockets, caches and mocks as well: a third of the time in which a mount's server starts.
import Pool from 'undici/lib/dispatcher/pool.js';
import { isAbort, LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import { Body } from './http-body.ts';
import { HttpError, safeUrl } from './http-error.ts';
import { ResponseHeaders } from './http-headers.ts';
import { proxyAuthorization, proxyFor } from './proxy.ts';
import type { Environment, Timeouts } from './registry-options.ts';
import type { TlsSettings } from './tls.ts';

export interface WireRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes at hand, or a stream together with its `content-length` header. */
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  /** Instead of the first-byte time-out: some answers take the server some work. Milliseconds. */
  readonly answerMs?: number;
}

export interface WireResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** Where the answer came from. */
  readonly url: URL;
  readonly body: Body;
}

export interface TransportOptions {
  readonly env: Environment;
  readonly timeouts: Timeouts;
  readonly userAgent: string;
  /** Certificates for a host (with its port). */
  readonly tls: (host: string) => Promise<TlsSettings>;
  /** How long connecting to a host may take, where that is not what `timeouts` say; ms. */
  readonly connectMs?: (host: string) => number | undefined;
}

export const DEFAULT_TIMEOUTS: Timeouts = { connect: 10_000, firstByte: 30_000, idle: 30_000 };
const KEEP_ALIVE_MS = 20_000;
/** Presigned locations can be long. */
const HEADER_LIMIT = 64 * 1024;
/** Larger bodies are handed over in slices of this size, so that a slow line shows as progress and not as silence. */
const SLICE = 1024 * 1024;

/** One request, one answer: connections, proxies, time-outs. No redirects, no retries, no credentials. */
export class Transport {
  readonly #options: TransportOptions;
  readonly #dispatchers = new Map<string, Promise<Dispatcher>>();
  #closed = false;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  async send(request: WireRequest): Promise<WireResponse> {
    throwIfAborted(request.signal);
    const dispatcher = await this.#dispatcher(request.url);
    throwIfAborted(request.signal);
    const { timeouts, userAgent } = this.#options;
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(request, resolve, reject);
      dispatcher.dispatch(
        {
          origin: request.url.origin,
          path: request.url.pathname + request.url.search,
          method: request.method,
          headers: {
            'user-agent': userAgent, 'accept-encoding': 'identity', ...request.headers,
            ...(request.body instanceof Uint8Array ? { 'content-length': String(request.body.length) } : {}),
          },
          body: wireBody(request.body) as Uint8Array | null,
          headersTimeout: request.answerMs ?? timeouts.firstByte,
          bodyTimeout: timeouts.idle,
          // undici closes the connection after every HEAD unless told otherwise.
          ...(request.method === 'HEAD' ? { reset: false } : {}),
        },
        exchange,
      );
    });
  }

  /** Ends all connections; requests under way fail. */
  async close(): Promise<void> {
    this.#closed = true;
    const open = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(open.map(async (dispatcher) => {
      await (await dispatcher.catch(() => undefined))?.destroy();
    }));
  }

  /** Whether requests to this URL go through a proxy. */
  isProxied(url: URL): boolean {
    return proxyFor(url, this.#options.env) !== undefined;
  }

  #dispatcher(url: URL): Promise<Dispatcher> {
    if (this.#closed) throw new LazypullError('CANCELLED', 'the registry store is closed');
    const known = this.#dispatchers.get(url.origin);
    if (known) return known;
    const made = this.#connect(url);
    this.#dispatchers.set(url.origin, made);
    // An unreadable certificate may be repaired while we run.
    made.catch(() => this.#dispatchers.delete(url.origin));
    return made;
  }

  async #connect(url: URL): Promise<Dispatcher> {
    const timeout = this.#options.connectMs?.(url.host) ?? this.#options.timeouts.connect;
    const tls = { ...(url.protocol === 'https:' ? await this.#options.tls(url.host) : {}), timeout };
    const common = { keepAliveTimeout: KEEP_ALIVE_MS, maxHeaderSize: HEADER_LIMIT };
    const proxy = proxyFor(url, this.#options.env);
    if (!proxy) return new Pool(url.origin, { ...common, connect: tls });
    const { ProxyAgent } = await import('undici');
    const token = proxyAuthorization(proxy);
    const proxyTls = { ...(proxy.protocol === 'https:' ? await this.#options.tls(proxy.host) : {}), timeout: this.#options.timeouts.connect };
    return new ProxyAgent({
      ...common, uri: proxy.origin, requestTls: tls, proxyTls,
      // Many proxies allow tunnels to port 443 only: plain requests are passed on as such.
      proxyTunnel: url.protocol === 'https:',
      ...(token === undefined ? {} : { token }),
    });
  }
}

/** Follows one request through undici's callbacks; its only listener on the signal goes when the exchange ends. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #request: WireRequest;
  readonly #resolve: (response: WireResponse) => void;
  readonly #reject: (error: Error) => void;
  readonly #onAbort = (): void => this.#abort();
  #controller: Dispatcher.DispatchController | undefined;
  #body: Body | undefined;

  constructor(request: WireRequest, resolve: (response: WireResponse) => void, reject: (error: Error) => void) {
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
    request.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#request.signal?.aborted) controller.abort(cancelled(this.#request.signal));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[] | undefined>): void {
    if (status < 200) return;
    this.#body = new Body(controller, (error) => networkError(this.#request, error));
    this.#resolve({ status, headers: new ResponseHeaders(headers), url: this.#request.url, body: this.#body });
  }

  onResponseData(_: Dispatcher.DispatchController, bytes: Uint8Array): void {
    this.#body?.push(bytes);
  }

  onResponseEnd(): void {
    this.#unlisten();
    this.#body?.end();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#unlisten();
    if (this.#body) this.#body.fail(error);
    else this.#reject(networkError(this.#request, error));
  }

  #abort(): void {
    const error = cancelled(this.#request.signal);
    // Before the request is on the wire there is nothing to abort yet; onRequestStart does it then.
    if (this.#controller) this.#controller.abort(error);
    else this.#reject(error);
  }

  #unlisten(): void {
    this.#request.signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** As much of a body as is there, up to a limit; a cut connection is no further failure. */
export async function readUpTo(response: WireResponse, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const part of response.body) {
      parts.push(part);
      if ((size += part.length) >= limit) break;
    }
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
  }
  return Buffer.concat(parts).subarray(0, limit);
}

function cancelled(signal: AbortSignal | undefined): LazypullError {
  return new LazypullError('CANCELLED', 'cancelled', { cause: signal?.reason });
}

function wireBody(body: WireRequest['body']): Uint8Array | AsyncIterable<Uint8Array> | null {
  if (body === undefined) return null;
  return body instanceof Uint8Array && body.length > SLICE ? slices(body) : body;
}

async function* slices(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += SLICE) yield bytes.subarray(at, at + SLICE);
}

const PASSING = new Set([
  'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'UND_ERR_SOCKET', 'UND_ERR_INFO', 'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'HPE_INVALID_EOF_STATE',
]);

const HINTS: readonly (readonly [RegExp, string])[] = [
  [/^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT(?:_LOCALLY)?)$/,
    'its certificate comes from an authority that is not trusted here (--tls-ca FILE adds one)'],
  [/^(?:ERR_SSL_WRONG_VERSION_NUMBER|EPROTO|ERR_SSL_PACKET_LENGTH_TOO_LONG)$/, 'it does not speak TLS (--plain-http is for such registries)'],
  [/^ECONNREFUSED$/, 'connection refused'],
  [/^(?:ENOTFOUND|EAI_AGAIN)$/, 'its name cannot be resolved'],
  [/^UND_ERR_CONNECT_TIMEOUT$/, 'no connection in time'],
  [/^UND_ERR_HEADERS_TIMEOUT$/, 'no answer in time'],
  [/^UND_ERR_BODY_TIMEOUT$/, 'the transfer stood still for too long'],
  [/^(?:UND_ERR_SOCKET|ECONNRESET|EPIPE|UND_ERR_INFO|HPE_INVALID_EOF_STATE|UND_ERR_RES_CONTENT_LENGTH_MISMATCH)$/, 'the connection was cut'],
];

/** The failure of a connection in our words; errors of our own pass through. */
function networkError(request: { readonly method: string; readonly url: URL; readonly signal?: AbortSignal | undefined }, cause: Error): Error {
  if (cause instanceof LazypullError) return cause;
  if (isAbort(cause) && request.signal?.aborted) return cancelled(request.signal);
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : '';
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED') return new LazypullError('CANCELLED', 'the registry store was closed', { cause });
  const hint = HINTS.find(([pattern]) => pattern.test(code))?.[1];
  const gateway = /Proxy response \((\d{3})\)/.exec(cause.message)?.[1];
  const text = gateway ? `the proxy answered ${gateway}` : hint ?? printable(cause.message.slice(0, 200));
  return new HttpError('NETWORK', `${request.method} failed: ${text}`, {
    path: safeUrl(request.url), cause, retryable: PASSING.has(code) || ['502', '503', '504'].includes(gateway ?? ''),
  });
}
