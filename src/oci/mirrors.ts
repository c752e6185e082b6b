import { LazypullError, printable } from '../core/errors.ts';
import { hostsFile, type HostSettings } from './hosts-file.ts';
import { registryHost } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';

/** A place that a registry's content can be read from. */
export interface Place {
  /** `host[:port]`. */
  readonly host: string;
  /** Undefined where it is found out (`connectRegistry`). */
  readonly scheme: 'https' | 'http' | undefined;
  /** What goes before `/<repository>/blobs/...`: `/v2`. */
  readonly root: string;
  /** The registry that the reference names: the only one that is written to, and the one that decides. */
  readonly own: boolean;
  /** Whether content may be asked for by digest. */
  readonly pulls: boolean;
  /** Whether it may say what a tag is: never, when the registry itself cannot, or in its turn. */
  readonly resolves: 'never' | 'last' | 'in turn';
  readonly settings: HostSettings;
}

/** Tells how long a mirror may take to be there: the next one may be faster than its patience. Milliseconds. */
const MIRROR_CONNECT_MS = 5000;

/**
 * Where content of a registry is read from, in the order in which places are tried: mirrors that the options name, then what
 * containerd's hosts.toml says about the registry (registry.md §2), the registry itself among them or last.
 */
export async function findPlaces(domain: string, options: RegistryOptions): Promise<readonly Place[]> {
  const own = registryHost(domain);
  const named = (options.mirrors ?? []).map((text) => parseMirror(text)).filter(({ of }) => of === undefined || registryHost(of) === own);
  const places = named.map(({ address }) => mirrorPlace(address));
  const { hosts, server } = await hostsFile(domain, options);
  for (const { url, override, capabilities, settings } of hosts) {
    const root = override ? trimSlash(url.pathname) : withRoot(url.pathname);
    const self = url.host === own;
    if (!self && !capabilities.pull && !capabilities.resolve) continue;
    places.push({
      host: url.host, root, settings: self ? settings : { connectMs: MIRROR_CONNECT_MS, ...settings }, own: self,
      scheme: url.protocol === 'http:' ? 'http' : 'https', pulls: self || capabilities.pull, resolves: self || capabilities.resolve ? 'in turn' : 'never',
    });
  }
  if (!places.some((place) => place.own)) {
    const elsewhere = server && server.host !== own;
    if (elsewhere) places.push({ host: server.host, root: withRoot(server.pathname), settings: {}, own: false, scheme: server.protocol === 'http:' ? 'http' : 'https', pulls: true, resolves: 'in turn' });
    const scheme = server && !elsewhere ? (server.protocol === 'http:' ? 'http' : 'https') : undefined;
    places.push({ host: own, root: '/v2', settings: {}, own: true, scheme, pulls: true, resolves: 'in turn' });
  }
  return options.direct ? places.filter((place) => place.own) : places;
}

/**
 * `[REGISTRY=]ADDRESS`, where the address is a host or a URL: a mirror of one registry, or of whichever an image is in. USAGE when it
 * is malformed.
 */
export function parseMirror(text: string): { readonly of: string | undefined; readonly address: URL & { readonly bare?: boolean } } {
  const split = /^([^=/?#]+)=(.+)$/.exec(text);
  const address = split?.[2] ?? text;
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(address);
  const url = bare ? `https://${address}` : address;
  const refuse = (why: string): LazypullError => new LazypullError('USAGE', `"${printable(text.replace(/\/\/[^/@]*@/, '//***@'))}" is no mirror: ${why}; write [REGISTRY=]HOST or [REGISTRY=]URL`);
  if (!URL.canParse(url)) throw refuse('it has no host');
  const parsed = new URL(url);
  if (!/^[A-Za-z0-9.:[\]-]+$/.test(parsed.host)) throw refuse('it has no host');
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') throw refuse('only http and https can be spoken');
  if (parsed.username || parsed.password) throw refuse('credentials come from the credentials file');
  if (parsed.search || parsed.hash) throw refuse('an address ends with its path');
  return { of: split?.[1], address: Object.assign(parsed, { bare }) };
}

/** Named by a user for its content. What a tag is the registry itself is asked, unless it is not there to say so. */
function mirrorPlace(address: URL & { readonly bare?: boolean }): Place {
  const scheme = address.bare ? undefined : address.protocol === 'http:' ? 'http' : 'https';
  return { host: address.host, scheme, root: withRoot(address.pathname), own: false, pulls: true, resolves: 'last', settings: { connectMs: MIRROR_CONNECT_MS } };
}

function withRoot(path: string): string {
  const trimmed = trimSlash(path);
  return trimmed.endsWith('/v2') ? trimmed : `${trimmed}/v2`;
}

function trimSlash(path: string): string {
  return path.replace(/\/+$/, '');
}
