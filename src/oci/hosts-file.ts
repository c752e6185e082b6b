import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { LazypullError, wrapError } from '../core/errors.ts';
import type { Environment, RegistryOptions } from './registry-options.ts';
import { isTable, parseToml, type TomlTable, type TomlValue } from './toml.ts';

/** How one address of a registry's content is talked to, besides what holds for all. */
export interface HostSettings {
  /** Files of further authorities. */
  readonly ca?: readonly string[];
  readonly client?: { readonly cert: string; readonly key: string };
  readonly skipVerify?: boolean;
  /** Until a connection stands, ms. */
  readonly connectMs?: number;
  /** Sent with every request to this address, and to no other. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a hosts.toml says about a registry. */
export interface HostsFile {
  /** In the order of the file. */
  readonly hosts: readonly HostEntry[];
  /** What is asked when none of them has an answer. */
  readonly server: URL | undefined;
}

export interface HostEntry {
  readonly url: URL;
  /** The path has the root of the API already. */
  readonly override: boolean;
  readonly capabilities: { readonly pull: boolean; readonly resolve: boolean };
  readonly settings: HostSettings;
}

const MAX_FILE = 1 << 20;
const NONE: HostsFile = { hosts: [], server: undefined };

/**
 * containerd's hosts.toml for a registry (registry.md §2), from the folder of the options, or from where containerd and nerdctl look.
 * No file is no error, unless the folder was named and is not there; one that cannot be understood is.
 */
export async function hostsFile(domain: string, { hostsDir, env = process.env }: Pick<RegistryOptions, 'hostsDir' | 'env'>): Promise<HostsFile> {
  for (const folder of hostsDir === undefined ? usualFolders(env) : [hostsDir]) {
    for (const name of new Set([domain.replace(/:(\d+)$/, '_$1_'), domain, '_default'])) {
      const path = join(folder, name, 'hosts.toml');
      const text = await read(path);
      if (text !== undefined) return understand(parseToml(text, path), path, env);
    }
  }
  return NONE;
}

function usualFolders(env: Environment): string[] {
  const home = env['XDG_CONFIG_HOME'] || join(env['HOME'] ?? homedir(), '.config');
  return [join(home, 'containerd/certs.d'), '/etc/containerd/certs.d', '/etc/docker/certs.d'];
}

async function read(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, 'utf8');
    if (text.length > MAX_FILE) throw new LazypullError('LIMIT', 'is too large to be configuration', { path });
    return text;
  } catch (error) {
    if (error instanceof Error && 'code' in error && ['ENOENT', 'ENOTDIR', 'EACCES'].includes(String(error.code))) return undefined;
    throw wrapError(error, 'IO', 'cannot read', { path });
  }
}

function understand(file: TomlTable, path: string, env: Environment): HostsFile {
  const { server, host } = file;
  if (server !== undefined && typeof server !== 'string') throw wrong(path, 'server is a URL');
  if (host !== undefined && !isTable(host)) throw wrong(path, 'host is a table of hosts');
  const hosts = Object.entries(host ?? {}).map(([name, value]): HostEntry => {
    if (!isTable(value)) throw wrong(path, `${name} is no table`);
    const capabilities = list(value['capabilities'], path, 'capabilities') ?? ['pull', 'resolve'];
    return {
      url: address(name, path),
      override: flag(value, 'override_path', path),
      capabilities: { pull: capabilities.includes('pull'), resolve: capabilities.includes('resolve') },
      settings: settingsOf(value, path, env),
    };
  });
  return { hosts, server: server === undefined ? undefined : address(server, path) };
}

function settingsOf(value: TomlTable, path: string, env: Environment): HostSettings {
  const near = (name: string): string => resolve(dirname(path), name.replace(/^~\//, `${env['HOME'] ?? homedir()}/`));
  const ca = list(value['ca'], path, 'ca');
  const client = clientOf(value['client'], path);
  const headers = headersOf(value['header'], path);
  const wait = value['dial_timeout'];
  return {
    ...(ca && { ca: ca.map(near) }),
    ...(client && { client: { cert: near(client[0]), key: near(client[1]) } }),
    ...(flag(value, 'skip_verify', path) && { skipVerify: true }),
    ...(wait !== undefined && { connectMs: duration(wait, path) }),
    ...(headers && { headers }),
  };
}

function address(text: string, path: string): URL {
  const url = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  if (!URL.canParse(url) || !/^https?:/i.test(url)) throw wrong(path, `${text} is no address`);
  const parsed = new URL(url);
  if (parsed.username || parsed.password) throw wrong(path, 'credentials come from the credentials file, not from an address');
  return parsed;
}

function flag(value: TomlTable, name: string, path: string): boolean {
  const said = value[name] ?? false;
  if (typeof said !== 'boolean') throw wrong(path, `${name} is true or false`);
  return said;
}

function list(value: TomlValue | undefined, path: string, name: string): string[] | undefined {
  if (value === undefined) return undefined;
  const all = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(all) || !all.every((one): one is string => typeof one === 'string')) throw wrong(path, `${name} is text, or a list of texts`);
  return all;
}

/** A pair of files, or a list of pairs of which the first is taken; a single file has both. */
function clientOf(value: TomlValue | undefined, path: string): readonly [string, string] | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string') return [value, value];
  const first = Array.isArray(value) ? (value as readonly TomlValue[])[0] : undefined;
  const pair = Array.isArray(first) ? (first as readonly TomlValue[]) : typeof first === 'string' ? (value as readonly TomlValue[]).slice(0, 2) : [];
  const [cert, key = cert] = pair;
  if (typeof cert !== 'string' || typeof key !== 'string') throw wrong(path, 'client is a list of pairs: a certificate and its key');
  return [cert, key];
}

function headersOf(value: TomlValue | undefined, path: string): Record<string, string> | undefined {
  if (value === undefined) return undefined;
  if (!isTable(value)) throw wrong(path, 'header is a table');
  return Object.fromEntries(Object.entries(value).map(([name, said]) => {
    if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) throw wrong(path, 'a header has a name that is none');
    const text = (list(said, path, `header ${name}`) as string[]).join(', ');
    // oxlint-disable-next-line no-control-regex -- a line break would begin another header
    if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(text)) throw wrong(path, `header ${name} has control characters`);
    return [name.toLowerCase(), text];
  }));
}

/** Go's way of writing durations; milliseconds. */
function duration(value: TomlValue, path: string): number {
  const text = typeof value === 'string' ? value : '';
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) sum += Number(count) * (units[unit as string] as number);
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/.test(text) || sum <= 0) throw wrong(path, 'dial_timeout is a duration, such as "5s"');
  return sum;
}

function wrong(path: string, why: string): LazypullError {
  return new LazypullError('USAGE', `not a hosts.toml: ${why}`, { path });
}
