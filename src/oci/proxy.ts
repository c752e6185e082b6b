import { BlockList, isIP } from 'node:net';
import { LazypullError } from '../core/errors.ts';
import { isLoopbackHost } from './reference.ts';
import type { Environment } from './registry-options.ts';

/**
 * The proxy that the environment wants for a URL, or undefined for a direct connection. The names are those of curl and
 * Go: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, lower case first; this machine is never reached through a proxy.
 */
export function proxyFor(url: URL, env: Environment): URL | undefined {
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const text = env[name] || env[name.toUpperCase()];
  if (!text || isLoopbackHost(url.host) || isExempt(url, env['no_proxy'] || env['NO_PROXY'] || '')) return undefined;
  const full = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(full) || !['http:', 'https:'].includes(new URL(full).protocol)) {
    // The value may hold a password, so it is not repeated.
    throw new LazypullError('USAGE', `${name} is not an http or https URL`);
  }
  return new URL(full);
}

/** `Proxy-Authorization` for the user info of a proxy URL. */
export function proxyAuthorization(proxy: URL): string | undefined {
  if (proxy.username === '') return undefined;
  return `Basic ${Buffer.from(`${unescape(proxy.username)}:${unescape(proxy.password)}`).toString('base64')}`;
}

/** NO_PROXY: `*`, or a list of hosts and domains (subdomains included), addresses and CIDR blocks, each with an optional port. */
function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  for (const item of list.split(/[,\s]+/)) {
    if (item === '') continue;
    if (item === '*') return true;
    if (item.includes('/')) {
      if (isInBlock(host, item)) return true;
      continue;
    }
    const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(item);
    const name = (match ? match[1] ?? match[2] ?? '' : item).replace(/^\*?\./, '').toLowerCase();
    if (match?.[3] !== undefined && match[3] !== port) continue;
    if (host === name || (isIP(host) === 0 && host.endsWith(`.${name}`))) return true;
  }
  return false;
}

function isInBlock(host: string, block: string): boolean {
  const family = isIP(host);
  const [network = '', bits = ''] = block.split('/', 2);
  if (family === 0 || isIP(network) !== family || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const blocks = new BlockList();
  blocks.addSubnet(network, Number(bits), type);
  return blocks.check(host, type);
}

function unescape(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
