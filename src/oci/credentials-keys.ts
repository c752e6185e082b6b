import type { Repository } from './reference.ts';

/** Docker Hub under all its names; the URL is what `docker login` writes to this day. */
const HUB_KEYS = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];
const HUB_URL = 'https://index.docker.io/v1/';

export function isHub(domain: string): boolean {
  return HUB_KEYS.includes(domain);
}

/**
 * The names under which credentials for a repository may be filed, most specific first:
 * `host/ns/repo`, `host/ns`, `host`.
 */
export function keysFor({ domain, path }: Repository): string[] {
  const hosts = isHub(domain) ? [domain, ...HUB_KEYS.filter((host) => host !== domain)] : [domain];
  const parts = path.split('/');
  const keys: string[] = [];
  for (let depth = parts.length; depth >= 0; depth--) {
    const below = parts.slice(0, depth).join('/');
    for (const host of hosts) keys.push(below === '' ? host : `${host}/${below}`);
  }
  return keys;
}

/** What a credential helper is asked for when nothing in the file says how the host was called at login. */
export function serverKey(domain: string): string {
  return isHub(domain) ? HUB_URL : domain;
}

/**
 * The host of a key that is a URL (`https://host/v1/`) or a host with an API version behind it. A key with a namespace
 * is no host's key.
 */
export function hostOfKey(key: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[0-9]+\/?)?)?$/i.exec(key);
  if (match) return match[1];
  // Anything after the host of a URL is a path on the server, not a namespace.
  return /^https?:\/\/([^/]+)\//i.exec(key)?.[1];
}
