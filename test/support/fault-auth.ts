import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Faults } from './fault-registry.ts';
import { bodyText, refuse } from './fault-rules.ts';

interface Token {
  readonly scopes: ReadonlySet<string>;
  readonly expires: number;
  uses: number;
}

/** The registry's doorkeeper, and the token service it sends clients to (`/token` of the same server). */
export class FaultAuth {
  readonly #faults: Faults;
  readonly #tokens = new Map<string, Token>();

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  /** Tokens given out so far. */
  get issued(): number {
    return this.#tokens.size;
  }

  /** Whether the request may pass; otherwise it has been answered. */
  admit(request: IncomingMessage, response: ServerResponse, origin: string): boolean {
    const { auth } = this.#faults;
    const given = request.headers.authorization ?? '';
    if (auth === 'none') return true;
    if (auth === 'basic') {
      if (this.#isUser(given)) return true;
      refuse(response, 401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="fault, \\"registry\\""' });
      return false;
    }
    const needed = neededScopes(request.method ?? '', request.url ?? '');
    const token = this.#tokens.get(/^bearer (.+)$/i.exec(given)?.[1] ?? '');
    const alive = token !== undefined && token.expires > Date.now() && token.uses < (this.#faults.tokenUses ?? Number.POSITIVE_INFINITY);
    if (token && alive && needed.every((scope) => token.scopes.has(scope))) {
      token.uses += 1;
      return true;
    }
    const scope = needed.length > 0 ? `,scope="${asked(needed).join(' ')}"` : '';
    const error = given === '' ? '' : `,error="${alive ? 'insufficient_scope' : 'invalid_token'}"`;
    refuse(response, 401, 'UNAUTHORIZED', { 'WWW-Authenticate': `Bearer realm="${this.#faults.tokenRealm ?? `${origin}/token`}",service="fault-registry"${scope}${error}` });
    return false;
  }

  /** Answers a request to the token service. */
  async token(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const faults = this.#faults;
    const query = new URL(request.url ?? '/', 'http://token.invalid').searchParams;
    const given = request.headers.authorization;
    let form = query;
    let isUser: boolean;
    if (request.method === 'POST') {
      form = new URLSearchParams(await bodyText(request));
      if (faults.tokenPost === 'refused') return refuse(response, 404, 'UNSUPPORTED');
      isUser = form.get('grant_type') === 'refresh_token'
        ? faults.identityToken !== undefined && form.get('refresh_token') === faults.identityToken
        : form.get('username') === faults.user && form.get('password') === faults.password;
      if (!isUser) return refuse(response, 401, 'UNAUTHORIZED');
    } else {
      isUser = this.#isUser(given ?? '');
      if (given !== undefined && !isUser) return refuse(response, 401, 'UNAUTHORIZED');
      if (!isUser && !faults.anonymousPull) return refuse(response, 401, 'UNAUTHORIZED');
    }
    const scopes = new Set(form.getAll('scope').flatMap((scope) => scope.split(' ')).flatMap(expand).filter((scope) => isUser || scope.endsWith(':pull')));
    const name = randomUUID();
    this.#tokens.set(name, { scopes, expires: Date.now() + faults.tokenLifetime * 1000, uses: 0 });
    const body = JSON.stringify({ [faults.tokenField]: name, expires_in: faults.tokenExpiresIn ?? Math.ceil(faults.tokenLifetime) });
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  }

  #isUser(authorization: string): boolean {
    const encoded = /^basic (.+)$/i.exec(authorization)?.[1] ?? '';
    return Buffer.from(encoded, 'base64').toString('utf8') === `${this.#faults.user}:${this.#faults.password}`;
  }
}

/** `repository:app:pull` and so on, one action each. */
function neededScopes(method: string, target: string): string[] {
  const url = new URL(target, 'http://registry.invalid');
  if (url.pathname === '/v2/_catalog') return ['registry:catalog:*'];
  const name = /^\/v2\/(.+?)\/(?:manifests|blobs|tags|referrers)\//.exec(url.pathname)?.[1];
  if (name === undefined) return [];
  const from = url.searchParams.get('from');
  const mounted = url.searchParams.has('mount') && from !== null ? [`repository:${from}:pull`] : [];
  const isUpload = url.pathname.includes('/blobs/uploads/');
  if (method === 'DELETE' && !isUpload) return [`repository:${name}:delete`];
  if (isUpload || method === 'PUT') return [`repository:${name}:pull`, `repository:${name}:push`, ...mounted];
  return [`repository:${name}:pull`];
}

/** The same as a challenge has it: actions of one resource together. */
function asked(scopes: readonly string[]): string[] {
  const byResource = new Map<string, string[]>();
  for (const scope of scopes) {
    const cut = scope.lastIndexOf(':');
    const resource = scope.slice(0, cut);
    byResource.set(resource, [...(byResource.get(resource) ?? []), scope.slice(cut + 1)]);
  }
  return [...byResource].map(([resource, actions]) => `${resource}:${actions.join(',')}`);
}

function expand(scope: string): string[] {
  const cut = scope.lastIndexOf(':');
  return scope.slice(cut + 1).split(',').map((action) => `${scope.slice(0, cut)}:${action}`);
}
