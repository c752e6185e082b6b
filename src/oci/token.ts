import { LazypullError, printable } from '../core/errors.ts';
import { collect } from '../core/stream.ts';
import type { Credential } from './credential.ts';
import { answerError, ERROR_BODY_LIMIT, explain, isStatus, redact, safeUrl } from './http-error.ts';
import { readUpTo, type Transport, type WireRequest } from './http-transport.ts';
import type { Scope } from './scopes.ts';

/** A bearer token and how long it serves. */
export interface Token {
  readonly value: string;
  /** Monotonic clock (`performance.now`), milliseconds. */
  readonly receivedAt: number;
  readonly expiresAt: number;
  /** A new refresh token, when the service rotates them. */
  readonly refreshToken: string | undefined;
}

export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  /** In the order in which they are asked for: some services honour only the first. */
  readonly scopes: readonly Scope[];
  readonly credential: Credential | undefined;
}

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Milliseconds since the epoch. */
  date(): number;
}

export const SYSTEM_CLOCK: Clock = { now: () => performance.now(), date: () => Date.now() };

const REPLY_LIMIT = 1024 * 1024;
const MIN_LIFE_S = 60;
const CLIENT_ID = 'lazypull';

/**
 * Gets a token from the token service (registry.md §4): a refresh token by POST, a password by GET with Basic, and each
 * the other way when the service does not know that one. No redirect is followed: the request carries a secret.
 */
export async function requestToken(transport: Transport, request: TokenRequest, clock: Clock = SYSTEM_CLOCK): Promise<Token> {
  const { credential } = request;
  const orders = credential?.kind === 'identity' ? [post, get] : credential?.kind === 'basic' ? [get, post] : [get];
  for (const [i, order] of orders.entries()) {
    try {
      return await exchange(transport, order(request), secretsOf(credential), clock);
    } catch (error) {
      const last = i === orders.length - 1;
      if (last || !isStatus(error, 404, 405)) throw explain(error, 'the token service refused');
    }
  }
  throw new LazypullError('INTERNAL', 'no way to ask for a token was tried');
}

/** Whether a token should be replaced: less than a tenth of its life, or ten seconds, are left. */
export function isNearExpiry(token: Token, now: number): boolean {
  const left = token.expiresAt - now;
  return left < Math.max(10_000, (token.expiresAt - token.receivedAt) / 10);
}

function get({ realm, service, scopes, credential }: TokenRequest): WireRequest {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  url.searchParams.set('client_id', CLIENT_ID);
  const headers: Record<string, string> = { accept: 'application/json' };
  if (credential?.kind === 'basic') headers['authorization'] = basicAuthorization(credential.username, credential.password);
  // Services that know no OAuth take the refresh token for a password, if they gave it a name.
  if (credential?.kind === 'identity' && credential.username !== '') headers['authorization'] = basicAuthorization(credential.username, credential.token);
  return { method: 'GET', url, headers };
}

function post({ realm, service, scopes, credential }: TokenRequest): WireRequest {
  const form = new URLSearchParams();
  if (credential?.kind === 'identity') {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', credential.token);
  } else if (credential?.kind === 'basic') {
    form.set('grant_type', 'password');
    form.set('username', credential.username);
    form.set('password', credential.password);
    form.set('access_type', 'offline');
  }
  if (service !== undefined) form.set('service', service);
  form.set('client_id', CLIENT_ID);
  if (scopes.length > 0) form.set('scope', scopes.join(' '));
  return {
    method: 'POST', url: realm,
    headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from(form.toString(), 'utf8'),
  };
}

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}

async function exchange(transport: Transport, request: WireRequest, secrets: readonly string[], clock: Clock): Promise<Token> {
  const response = await transport.send(request);
  if (response.status !== 200) {
    const body = await readUpTo(response, ERROR_BODY_LIMIT);
    throw answerError(request, { ...response, body }, secrets);
  }
  const text = Buffer.from(await collect(response.body, REPLY_LIMIT, 'the answer of the token service')).toString('utf8');
  return parseReply(text, request.url, secrets, clock);
}

function parseReply(text: string, url: URL, secrets: readonly string[], clock: Clock): Token {
  let reply: unknown;
  try {
    reply = JSON.parse(text);
  } catch {
    reply = undefined;
  }
  const fields = (typeof reply === 'object' && reply !== null ? reply : {}) as Record<string, unknown>;
  const value = [fields['token'], fields['access_token']].find((v) => typeof v === 'string' && v !== '') as string | undefined;
  if (value === undefined) {
    const start = redact(printable(text.slice(0, 80)), secrets);
    throw new LazypullError('UNAUTHORIZED', `the token service answered without a token${/^\s*</.test(text) ? ` but with markup: ${start}` : ''}`, { path: safeUrl(url) });
  }
  if (!/^[\x21-\x7e]+$/.test(value)) throw new LazypullError('UNAUTHORIZED', 'the token service sent a token with characters that no header can carry', { path: safeUrl(url) });
  const receivedAt = clock.now();
  const refresh = fields['refresh_token'];
  return {
    value, receivedAt,
    expiresAt: receivedAt + lifeMs(fields, clock.date()),
    refreshToken: typeof refresh === 'string' && refresh !== '' ? refresh : undefined,
  };
}

/** `expires_in` counts from `issued_at`; a clock that disagrees by more than the token's life is not believed. */
function lifeMs(fields: Record<string, unknown>, date: number): number {
  const stated = Number(fields['expires_in']);
  const life = (Number.isFinite(stated) && stated > MIN_LIFE_S ? stated : MIN_LIFE_S) * 1000;
  const issued = typeof fields['issued_at'] === 'string' ? Date.parse(fields['issued_at']) : Number.NaN;
  const age = date - issued;
  return age > 0 && age < life ? life - age : life;
}

function secretsOf(credential: Credential | undefined): string[] {
  if (!credential) return [];
  if (credential.kind !== 'basic') return [credential.token];
  return [credential.password, basicAuthorization(credential.username, credential.password).slice('Basic '.length)];
}
