import { version } from '../core/version.ts';
import { Authorizer } from './authorizer.ts';
import { findCredential } from './credentials.ts';
import { Gate } from './gate.ts';
import { HttpError } from './http-error.ts';
import { DEFAULT_TIMEOUTS, Transport } from './http-transport.ts';
import { Http } from './http.ts';
import { isLoopbackHost, registryHost, type Repository } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';
import { Retrier } from './retry.ts';
import { loadTls } from './tls.ts';

/** Requests at a time that public registries bear well. */
const DEFAULT_CONCURRENCY = 3;

/** The connections of one store. */
export function makeTransport(options: RegistryOptions): Transport {
  const env = options.env ?? process.env;
  return new Transport({
    env,
    timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    userAgent: options.userAgent ?? `lazypull/${version}`,
    tls: (host) => loadTls(host, { ca: options.tlsCa, skipVerify: options.tlsSkipVerify, env }),
  });
}

/** Everything that requests to a repository's registry need. Decides between https and http once, for the life of the store. */
export async function connectRegistry(
  repository: Repository,
  transport: Transport,
  options: RegistryOptions,
  warn: (text: string) => void,
): Promise<Http> {
  const gate = new Gate(options.concurrency ?? DEFAULT_CONCURRENCY);
  const registry = await chooseScheme(repository.domain, transport, options.plainHttp);
  const retrier = new Retrier(options.retry);
  const { creds, authFile, env = process.env } = options;
  const authorizer = new Authorizer({
    registry, transport, retrier,
    lookup: () => findCredential(repository, { creds, authFile, env }),
  });
  return new Http({ registry, transport, authorizer, retrier, gate, warn });
}

/**
 * https, unless http was asked for. A registry on this machine is tried by https and taken by http when there is no TLS
 * to be had; one whose certificate is not trusted stays with https, and its first request says so.
 */
async function chooseScheme(domain: string, transport: Transport, plainHttp: boolean | undefined): Promise<URL> {
  const host = registryHost(domain);
  const secure = new URL(`https://${host}/`);
  if (plainHttp) return new URL(`http://${host}/`);
  if (!isLoopbackHost(host)) return secure;
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
