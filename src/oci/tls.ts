import { X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import { LazypullError, wrapError } from '../core/errors.ts';
import type { Environment } from './registry-options.ts';

export interface TlsOptions {
  /** PEM files with further authorities. */
  readonly ca?: readonly string[] | undefined;
  /** Files of a client's pair; goes before those that are found. */
  readonly client?: { readonly cert: string; readonly key: string } | undefined;
  readonly skipVerify?: boolean | undefined;
  readonly env: Environment;
}

/** What a TLS connection is made with. The context is built once per host: parsing the authorities takes 20 ms. */
export interface TlsSettings {
  readonly secureContext?: SecureContext;
  readonly rejectUnauthorized?: boolean;
}

/** Where distributions keep the bundle that every other tool on the machine trusts; Node does not read it by itself. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/ssl/cert.pem',
];

/**
 * Authorities and client certificate for `host[:port]`: Node's own list, the system's bundle, NODE_EXTRA_CA_CERTS, the
 * `ca` file, and what the certs.d directories of container tools hold for that host (registry.md §2). All of them add up.
 */
export async function loadTls(host: string, options: TlsOptions): Promise<TlsSettings> {
  const found = await readCertsD(host, options.env);
  const extra = [...found.authorities];
  for (const path of options.ca ?? []) extra.push(await readAuthority(path));
  const client = options.client ? { cert: await readPem(options.client.cert), key: await readPem(options.client.key) } : found.client;
  const bundle = await readBundle(options.env);
  const base = options.skipVerify ? { rejectUnauthorized: false } : {};
  if (extra.length === 0 && !client && bundle.length === 0) return base;
  try {
    return { ...base, secureContext: createSecureContext({ ca: [...rootCertificates, ...bundle, ...extra], ...client }) };
  } catch (error) {
    throw wrapError(error, 'USAGE', `the certificates for ${host} cannot be used`);
  }
}

interface Found {
  readonly authorities: readonly string[];
  readonly client: { readonly cert: string; readonly key: string } | undefined;
}

/** `*.crt` are authorities; `X.cert` and `X.key` are a client's pair, and one without the other is a mistake. */
async function readCertsD(host: string, env: Environment): Promise<Found> {
  const home = env['HOME'] ?? homedir();
  const authorities: string[] = [];
  let client: Found['client'];
  for (const top of [join(home, '.config/containers/certs.d'), '/etc/containers/certs.d', '/etc/docker/certs.d']) {
    const folder = join(top, host);
    const names = await list(folder);
    for (const name of names) if (name.endsWith('.crt')) authorities.push(await readAuthority(join(folder, name)));
    for (const name of names) {
      const partner = name.endsWith('.cert') ? `${name.slice(0, -5)}.key` : name.endsWith('.key') ? `${name.slice(0, -4)}.cert` : undefined;
      if (partner !== undefined && !names.includes(partner)) {
        throw new LazypullError('USAGE', `a client certificate needs both its .cert and its .key: ${partner} is missing`, { path: join(folder, name) });
      }
      if (name.endsWith('.cert') && partner !== undefined) client ??= { cert: await readPem(join(folder, name)), key: await readPem(join(folder, partner)) };
    }
  }
  return { authorities, client };
}

async function readBundle(env: Environment): Promise<string[]> {
  const texts: string[] = [];
  for (const path of env['SSL_CERT_FILE'] ? [env['SSL_CERT_FILE']] : BUNDLES) {
    const text = await readFile(path, 'utf8').catch(() => '');
    if (text.includes('-----BEGIN')) {
      texts.push(text);
      break;
    }
  }
  const more = env['NODE_EXTRA_CA_CERTS'];
  if (more) texts.push(await readFile(more, 'utf8').catch(() => ''));
  return texts.filter((text) => text.includes('-----BEGIN'));
}

async function list(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'EACCES')) return [];
    throw wrapError(error, 'IO', 'cannot list certificates', { path: folder });
  }
}

/** OpenSSL passes over what it cannot read, which would show as a failed connection much later. */
async function readAuthority(path: string): Promise<string> {
  const text = await readPem(path);
  try {
    void new X509Certificate(text);
  } catch (cause) {
    throw new LazypullError('USAGE', 'the file holds no certificate that can be read', { path, cause });
  }
  return text;
}

async function readPem(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot read the certificate', { path });
  }
  if (text.includes('-----BEGIN')) return text;
  throw new LazypullError('USAGE', 'the file holds no PEM certificate', { path });
}
