import { version } from '../core/version.ts';
import { Authorizer } from './authorizer.ts';
import { findCredential } from './credentials.ts';
import { Gate } from './gate.ts';
import { Health, type HealthOptions } from './health.ts';
import { HttpError } from './http-error.ts';
import { DEFAULT_TIMEOUTS, Transport } from './http-transport.ts';
import { Http } from './http.ts';
import type { HostSettings } from './hosts-file.ts';
import type { Place } from './mirrors.ts';
import { isLoopbackHost, type Repository } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';
import { Retrier } from './retry.ts';
import { loadTls } from './tls.ts';

/** Requests at a time that public registries bear well. */
const DEFAULT_CONCURRENCY = 3;
/** A mirror that fails has others behind it: it is asked again only in case that the connection was an old one. */
const MIRROR_ATTEMPTS = 2;
/** How long a mirror is left alone, ms. */
const MIRROR_PAUSE = { first: 5000, most: 30_000 };

/** The connections of one store. `hosts` may grow until a host is first talked to. */
export function makeTransport(options: RegistryOptions, hosts: ReadonlyMap<string, HostSettings>): Transport {
  const env = options.env ?? process.env;
  return new Transport({
    env,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    userAgent: options.userAgent ?? `lazypull/${version}`,
    tls: (host) => {
      const { ca = [], client, skipVerify } = hosts.get(host) ?? {};
      return loadTls(host, { ca: [...(options.tlsCa === undefined ? [] : [options.tlsCa]), ...ca], client, skipVerify: options.tlsSkipVerify ?? skipVerify, env });
    },
    connectMs: (host) => hosts.get(host)?.connectMs,
  });
}

/** Everything that requests to a place of a repository's content need. Decides between https and http once, for the life of the store. */
export async function connectPlace(
  place: Place,
  repository: Repository,
  transport: Transport,
  options: RegistryOptions,
  heard: { readonly warn: (text: string) => void } & Pick<HealthOptions, 'onDown' | 'onUp'>,
): Promise<Http> {
  const { warn, onDown, onUp } = heard;
  const gate = new Gate(options.concurrency ?? DEFAULT_CONCURRENCY);
  const registry = await chooseScheme(place, transport, options.plainHttp);
  const { attempts } = options.retry ?? {};
  const retrier = new Retrier({ ...options.retry, ...(place.own ? {} : { attempts: Math.min(attempts ?? MIRROR_ATTEMPTS, MIRROR_ATTEMPTS) }) });
  const { creds, authFile, env = process.env } = options;
  const authorizer = new Authorizer({
    registry, transport, retrier,
    // What was given for the registry is for nobody else.
    lookup: () => findCredential(place.own ? repository : { ...repository, domain: place.host }, { creds: place.own ? creds : undefined, authFile, env }),
  });
  const health = new Health({ name: place.host, ...(place.own ? {} : MIRROR_PAUSE), ...(onDown && { onDown }), ...(onUp && { onUp }) });
  return new Http({ registry, transport, authorizer, retrier, gate, health, headers: place.settings.headers, warn });
}

/**
 * https, unless http was asked for. A registry on this machine is tried by https and taken by http when there is no TLS
 * to be had; one whose certificate is not trusted stays with https, and its first request says so.
 */
async function chooseScheme({ host, scheme, own }: Place, transport: Transport, plainHttp: boolean | undefined): Promise<URL> {
  const secure = new URL(`https://${host}/`);
  if (scheme === 'http' || (plainHttp && (own || scheme === undefined))) return new URL(`http://${host}/`);
  if (scheme === 'https' || !isLoopbackHost(host)) return secure;
  try {
    const response = await transport.send({ method: 'GET', url: new URL('/v2/', secure) });
    await response.body.discard();
    return secure;
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    const code = error.cause instanceof Error && 'code' in error.cause ? String(error.cause.code) : '';
    const noTls = /^(?:EPROTO|ECONNRESET|ECONNREFUSED|UND_ERR_SOCKET|UND_ERR_CONNECT_TIMEOUT|ERR_SSL_.*)$/.test(code);
    return noTls ? new URL(`http://${host}/`) : secure;
  }
}
