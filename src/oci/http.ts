import type { Digest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { Authorizer } from './authorizer.ts';
import { Gate, type Slot } from './gate.ts';
import type { Health } from './health.ts';
import { answerError, ERROR_BODY_LIMIT, explain, HttpError, isRefusal, isTimeout, safeUrl } from './http-error.ts';
import { warningTexts, type ResponseHeaders } from './http-headers.ts';
import { readUpTo, type Transport, type WireRequest, type WireResponse } from './http-transport.ts';
import { Redirects, redirectTarget } from './redirects.ts';
import type { Retrier } from './retry.ts';
import type { Scope } from './scopes.ts';

export interface HttpRequest {
  readonly method: WireRequest['method'];
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream is made anew when the request has to be sent again; it goes with a `content-length` header. */
  readonly body?: Uint8Array | (() => AsyncIterable<Uint8Array>);
  readonly signal?: AbortSignal | undefined;
  readonly answerMs?: number;
  /** What the token must allow. */
  readonly scopes: readonly Scope[];
  /** The scopes are for this request only. */
  readonly passing?: boolean;
  /** Statuses that are answers; everything else is thrown as `HttpError`. */
  readonly expect: readonly number[];
  /** The blob that a GET is for: where the registry redirects it is remembered for a while. */
  readonly blob?: Digest;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** Where it came from, after redirects. */
  readonly url: URL;
  readonly body: Uint8Array;
}

export interface HttpOptions {
  /** The registry's own address. */
  readonly registry: URL;
  readonly transport: Transport;
  readonly authorizer: Authorizer;
  readonly retrier: Retrier;
  readonly gate: Gate;
  readonly health: Health;
  /** Sent to the registry's own address only. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly warn: (text: string) => void;
}

/** Until the headers of an answer that is to show whether there are answers again, ms. */
const TRIAL_MS = 5000;

/** Requests to one registry: credentials, redirects, limits, retries, and errors in our words. */
export class Http {
  readonly registry: URL;
  readonly health: Health;
  readonly #retrier: Retrier;
  readonly #transport: Transport;
  readonly #authorizer: Authorizer;
  readonly #gate: Gate;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #warn: (text: string) => void;
  readonly #redirects = new Redirects();

  constructor(options: HttpOptions) {
    this.registry = options.registry;
    this.health = options.health;
    this.#retrier = options.retrier;
    this.#headers = options.headers ?? {};
    this.#transport = options.transport;
    this.#authorizer = options.authorizer;
    this.#gate = options.gate;
    this.#warn = options.warn;
  }

  /** Repeats `work` as long as it fails for passing reasons. Fails at once while the registry is known not to answer. */
  run<T>(work: (attempt: number) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.health.run(() => this.#retrier.run(work, signal), () => work(0), signal);
  }

  /** For who repeats by himself: waits before the next try, or throws if there is none. `began`: when the failed one did, by `health.now()`. */
  async pause(error: unknown, attempt: number, began: number, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#retrier.pause(error, attempt, signal);
    } catch (last) {
      this.health.failed(last, began);
      throw last;
    }
  }

  /** One try whose short body is read; a longer one than `limit` is refused. */
  async exchange(request: HttpRequest, limit = ERROR_BODY_LIMIT): Promise<HttpAnswer> {
    const { status, headers, url, body } = await this.stream(request);
    return { status, headers, url, body: await collect(body, limit, `the answer of ${safeUrl(url)}`) };
  }

  /** `exchange`, repeated for passing failures. */
  ask(request: HttpRequest, limit?: number): Promise<HttpAnswer> {
    return this.run(() => this.exchange(request, limit), request.signal);
  }

  /** One try. The answer's body has to be read to its end or discarded. */
  async stream(request: HttpRequest): Promise<WireResponse> {
    const slot = await this.#gate.acquire(request.signal);
    const sent = this.health.now();
    try {
      const { body } = request;
      const response = await this.#authorized(typeof body === 'function' ? { ...request, body: () => outgoing(body(), slot) } : request);
      for (const text of warningTexts(response.headers)) this.#warn(printable(text));
      if (!request.expect.includes(response.status)) throw await this.#failure(request, response, []);
      this.#gate.succeed();
      this.health.answered();
      hold(slot, response);
      return response;
    } catch (error) {
      slot.release();
      throw this.#judge(error, sent);
    }
  }

  /** What a failed try says about the registry: that it is there after all, that it keeps silent, or that it is being started again. */
  #judge(error: unknown, sent: number): unknown {
    if (!(error instanceof HttpError)) return error;
    if (error.status !== undefined && error.code !== 'NETWORK') this.health.answered();
    if (isTimeout(error)) this.health.failed(error, sent);
    const { path = '', cause } = error;
    return this.health.known && isRefusal(error) ? new HttpError(error.code, error.bare, { path, cause, retryable: true }) : error;
  }

  async #authorized(request: HttpRequest): Promise<WireResponse> {
    const { scopes, passing, signal } = request;
    const used = await abortable(this.#authorizer.header(scopes, passing), signal);
    const response = await this.#follow(request, used);
    if (response.url.origin !== this.registry.origin) return response;
    let next: string | undefined;
    if (response.status === 401) {
      next = await abortable(this.#authorizer.answer(response.headers.all('www-authenticate'), scopes, used, passing), signal);
    } else if (response.status === 403 && this.#authorizer.dropStale(used)) {
      next = await abortable(this.#authorizer.header(scopes, passing), signal);
    }
    if (next === undefined || next === used) {
      if (response.status !== 401) return response;
      throw await this.#refused(request, response, used);
    }
    await response.body.discard();
    const second = await this.#follow(request, next);
    if (second.status === 401 && second.url.origin === this.registry.origin) throw await this.#refused(request, second, next);
    return second;
  }

  /** Sends a request and goes where the registry points it, by hand: the token stays with the registry. */
  async #follow(request: HttpRequest, authorization: string | undefined): Promise<WireResponse> {
    const shortcut = await this.#throughShortcut(request);
    if (shortcut) return shortcut;
    let authorized = authorization;
    let url = request.url;
    for (let hops = 0; ; hops++) {
      // An upload's location may be on another host from the start.
      if (url.origin !== this.registry.origin) authorized = undefined;
      const response = await this.#send(request, url, authorized);
      const target = redirectTarget(request, response, hops);
      if (!target) {
        if (request.blob && url.origin !== request.url.origin && response.status < 300) this.#redirects.remember(request.blob, url);
        return response;
      }
      await response.body.discard();
      url = target;
    }
  }

  /** Presigned addresses expire: one that is refused is forgotten, and the registry is asked again. */
  async #throughShortcut(request: HttpRequest): Promise<WireResponse | undefined> {
    const known = request.blob && this.#redirects.find(request.blob);
    if (!known || !request.blob) return undefined;
    try {
      const response = await this.#send(request, known, undefined);
      if (request.expect.includes(response.status)) return response;
      this.#redirects.forget(request.blob);
      await response.body.discard();
      return undefined;
    } catch (error) {
      this.#redirects.forget(request.blob);
      throw error;
    }
  }

  #send(request: HttpRequest, url: URL, authorization: string | undefined): Promise<WireResponse> {
    const { method, signal } = request;
    const answerMs = request.answerMs ?? (this.health.onTrial ? TRIAL_MS : undefined);
    const body = typeof request.body === 'function' ? request.body() : request.body;
    return this.#transport.send({
      method, url, signal,
      headers: { ...request.headers, ...(url.origin === this.registry.origin ? this.#headers : {}), ...(authorization === undefined ? {} : { authorization }) },
      ...(body === undefined ? {} : { body }),
      ...(answerMs === undefined ? {} : { answerMs }),
    });
  }

  async #refused(request: HttpRequest, response: WireResponse, used: string | undefined): Promise<Error> {
    const error = await this.#failure(request, response, [used?.replace(/^\S+ /, '') ?? '']);
    if (await this.#authorizer.hasCredentials()) return explain(error, `the credentials for ${this.registry.host} are refused`);
    return explain(error, `no credentials for ${this.registry.host} were found, and it wants some`);
  }

  async #failure(request: HttpRequest, response: WireResponse, secrets: readonly string[]): Promise<HttpError> {
    if (response.status === 429) this.#gate.slowDown();
    const body = request.method === 'HEAD' ? new Uint8Array(0) : await readUpTo(response, ERROR_BODY_LIMIT);
    return answerError({ method: request.method, url: response.url }, { ...response, body }, secrets);
  }
}

/** A slot is held until the connection is free again. */
function hold(slot: Slot, { body }: WireResponse): void {
  if (body.closed) {
    slot.release();
    return;
  }
  body.onStall = (stalled) => slot.stalled(stalled);
  body.onClose = () => slot.release();
}

/**
 * A stream on its way into a connection, which may write a piece after the stream has lent its memory to the next one:
 * hence the copy (`slice` of a Buffer would be none). While the stream has nothing to give, its slot is free for others.
 */
async function* outgoing(stream: AsyncIterable<Uint8Array>, slot: Slot): AsyncGenerator<Uint8Array> {
  slot.stalled(true);
  for await (const bytes of stream) {
    slot.stalled(false);
    yield new Uint8Array(bytes);
    slot.stalled(true);
  }
  slot.stalled(false);
}

/** Waits for shared work without owning it: an abort ends the waiting, not the work. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new LazypullError('CANCELLED', 'cancelled', { cause: signal.reason }));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
