import type { Digest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import { safeUrl } from './http-error.ts';
import type { WireRequest, WireResponse } from './http-transport.ts';

const MAX_HOPS = 10;
/** Presigned addresses live for minutes; one minute saves nearly all round trips and hardly ever runs into the end. */
const SHORTCUT_MS = 60_000;
const MAX_SHORTCUTS = 512;

/** Where the registry has its blobs at present. */
export class Redirects {
  readonly #known = new Map<Digest, { readonly url: URL; readonly until: number }>();

  find(blob: Digest): URL | undefined {
    const known = this.#known.get(blob);
    return known && known.until > performance.now() ? known.url : undefined;
  }

  remember(blob: Digest, url: URL): void {
    this.#known.delete(blob);
    this.#known.set(blob, { url, until: performance.now() + SHORTCUT_MS });
    const oldest = this.#known.keys().next();
    if (this.#known.size > MAX_SHORTCUTS && !oldest.done) this.#known.delete(oldest.value);
  }

  forget(blob: Digest): void {
    this.#known.delete(blob);
  }
}

/**
 * Where an answer points, or undefined when it is none of that kind. GET and HEAD follow every redirect, everything else
 * only those that keep method and body. Never from https to http, which would show the request to anyone on the way.
 */
export function redirectTarget(request: Pick<WireRequest, 'method'>, response: WireResponse, hops: number): URL | undefined {
  const { status, headers, url } = response;
  if (![301, 302, 303, 307, 308].includes(status)) return undefined;
  const refuse = (why: string): never => {
    throw new LazypullError('NETWORK', `${request.method} was redirected (${status}) ${why}`, { path: safeUrl(url) });
  };
  const location = headers.get('location') ?? '';
  if (location === '' || !URL.canParse(location, url.href)) return refuse('without a usable address');
  const target = new URL(location, url);
  if (target.protocol !== 'https:' && target.protocol !== 'http:') return refuse(`to something that is not http: ${printable(target.protocol)}`);
  if (url.protocol === 'https:' && target.protocol === 'http:') return refuse(`from https to http: ${printable(safeUrl(target))}`);
  if (hops >= MAX_HOPS) return refuse(`more than ${MAX_HOPS} times`);
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    if (status !== 307 && status !== 308) return refuse('in a way that loses its body');
  }
  // A user name in the address would become a header.
  target.username = target.password = '';
  return target;
}
