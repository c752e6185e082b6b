import { LazypullError } from '../core/errors.ts';
import { parseChallenges, type Challenge } from './challenge.ts';
import type { Credential } from './credential.ts';
import { isStatus } from './http-error.ts';
import type { Transport } from './http-transport.ts';
import { checkRealm, type Resolve } from './realm-guard.ts';
import type { Retrier } from './retry.ts';
import { mergeScopes, splitScopes, type Scope } from './scopes.ts';
import { basicAuthorization, isNearExpiry, requestToken, SYSTEM_CLOCK, type Clock, type Token } from './token.ts';

export interface AuthorizerOptions {
  /** The registry's own address; its challenges are the only ones that are answered. */
  readonly registry: URL;
  readonly transport: Transport;
  readonly retrier: Retrier;
  /** Looks the credentials up again each time: helpers hand out short-lived ones. */
  readonly lookup: () => Promise<Credential | undefined>;
  readonly clock?: Clock | undefined;
  /** Name resolution for judging a token service's address; tests replace it. */
  readonly resolve?: Resolve | undefined;
}

interface Bearer {
  readonly realm: URL;
  readonly service: string | undefined;
}

/** A 403 may mean "expired" when the token is at least this old. */
const STALE_MS = 30_000;

/**
 * Answers the challenges of one registry (registry.md §4). Scopes add up over the life of a store; tokens are kept by
 * what they were asked for, replaced shortly before they expire, and asked for once however many requests wait.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #clock: Clock;
  #scheme: { readonly kind: 'none' } | { readonly kind: 'basic' } | { readonly kind: 'bearer'; readonly bearer: Bearer } = { kind: 'none' };
  #scopes: Scope[] = [];
  #credential: Promise<Credential | undefined> | undefined;
  readonly #tokens = new Map<string, Token>();
  readonly #flights = new Map<string, Promise<Token>>();

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /**
   * The `Authorization` header for a request that needs these scopes, the most important first; none before a challenge.
   * Scopes that `passing` requests need are not asked for again later.
   */
  async header(scopes: readonly Scope[], passing = false): Promise<string | undefined> {
    const scheme = this.#scheme;
    if (scheme.kind === 'none') return undefined;
    const credential = await this.#credentialOnce();
    if (scheme.kind === 'basic') return credential?.kind === 'basic' ? basicAuthorization(credential.username, credential.password) : undefined;
    if (credential?.kind === 'registry') return `Bearer ${credential.token}`;
    return `Bearer ${(await this.#token(scheme.bearer, scopes, passing)).value}`;
  }

  /**
   * Takes in the challenge of a 401 to a request that carried `used`. Gives the header for another try, or undefined
   * when there is nothing better to show.
   */
  async answer(headers: readonly string[], scopes: readonly Scope[], used: string | undefined, passing = false): Promise<string | undefined> {
    const challenges = parseChallenges(headers);
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    if (bearer) {
      await this.#adopt(bearer);
      this.#forget(used);
      // What the registry asks for now comes first: some token services look at nothing else.
      const header = await this.header(mergeScopes(splitScopes(bearer.parameters.get('scope')), scopes), passing);
      return header === used ? undefined : header;
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) return undefined;
    this.#scheme = { kind: 'basic' };
    let header = await this.header(scopes);
    if (header !== undefined && header === used) {
      this.#credential = undefined;
      header = await this.header(scopes);
    }
    return header === used ? undefined : header;
  }

  /** For a 403 to a request that carried `used`: true when that token was old and has been dropped. */
  dropStale(used: string | undefined): boolean {
    for (const [key, token] of this.#tokens) {
      if (used !== `Bearer ${token.value}` || this.#clock.now() - token.receivedAt <= STALE_MS) continue;
      this.#tokens.delete(key);
      return true;
    }
    return false;
  }

  /** Whether any credentials were found, for messages. */
  async hasCredentials(): Promise<boolean> {
    return (await this.#credentialOnce().catch(() => undefined)) !== undefined;
  }

  async #adopt(challenge: Challenge): Promise<void> {
    const text = challenge.parameters.get('realm') ?? '';
    const { registry, resolve, transport } = this.#options;
    if (!URL.canParse(text)) throw new LazypullError('UNAUTHORIZED', `the registry ${registry.host} names a token service that is no URL`);
    const realm = new URL(text);
    const service = challenge.parameters.get('service');
    const before = this.#scheme;
    if (before.kind === 'bearer' && before.bearer.realm.href === realm.href && before.bearer.service === service) return;
    // Behind a proxy names are resolved there, and asking for them here may take for ever.
    if (transport.isProxied(realm)) await checkRealm(realm, registry, async () => []);
    else await checkRealm(realm, registry, resolve);
    this.#scheme = { kind: 'bearer', bearer: { realm, service } };
  }

  #forget(used: string | undefined): void {
    for (const [key, token] of this.#tokens) if (used === `Bearer ${token.value}`) this.#tokens.delete(key);
  }

  #credentialOnce(): Promise<Credential | undefined> {
    if (this.#credential) return this.#credential;
    const found = this.#options.lookup();
    this.#credential = found;
    found.catch(() => {
      if (this.#credential === found) this.#credential = undefined;
    });
    return found;
  }

  async #token(bearer: Bearer, wanted: readonly Scope[], passing: boolean): Promise<Token> {
    const scopes = mergeScopes(wanted, this.#scopes);
    const key = [bearer.realm.href, bearer.service ?? '', ...[...scopes].sort()].join('\n');
    const known = this.#tokens.get(key);
    if (known && !isNearExpiry(known, this.#clock.now())) return known;
    let flight = this.#flights.get(key);
    if (!flight) {
      flight = this.#request(bearer, scopes).finally(() => this.#flights.delete(key));
      this.#flights.set(key, flight);
    }
    const token = await flight;
    // Only what was granted is asked for again: a scope that makes the service refuse must not spoil later requests.
    if (!passing) this.#scopes = mergeScopes(this.#scopes, wanted);
    for (const [old, { expiresAt }] of this.#tokens) if (expiresAt < this.#clock.now()) this.#tokens.delete(old);
    this.#tokens.set(key, token);
    return token;
  }

  async #request(bearer: Bearer, scopes: readonly Scope[]): Promise<Token> {
    const { transport, retrier } = this.#options;
    const ask = async (): Promise<Token> => {
      const credential = await this.#credentialOnce();
      const token = await retrier.run(() => requestToken(transport, { ...bearer, scopes, credential }, this.#clock));
      if (token.refreshToken !== undefined && credential?.kind === 'identity') {
        this.#credential = Promise.resolve({ ...credential, token: token.refreshToken });
      }
      return token;
    };
    let token: Token;
    try {
      token = await ask();
    } catch (error) {
      // A helper's credentials may have expired since they were looked up (cloud registries: after an hour).
      if (!this.#credential || !isStatus(error, 400, 401, 403)) throw error;
      const before = JSON.stringify(await this.#credential);
      this.#credential = undefined;
      if (JSON.stringify(await this.#credentialOnce()) === before) throw error;
      token = await ask();
    }
    return token;
  }
}
