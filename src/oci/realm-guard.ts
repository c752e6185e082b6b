import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { LazypullError } from '../core/errors.ts';
import { safeUrl } from './http-error.ts';

/** How near an address is: a hostile registry must not point us at something nearer than itself. */
type Reach = 'public' | 'private' | 'link-local' | 'loopback';

export type Resolve = (host: string) => Promise<readonly string[]>;

const BLOCKS: readonly (readonly [Exclude<Reach, 'public'>, BlockList])[] = [
  ['loopback', blocks(['127.0.0.0/8', '0.0.0.0/8'], ['::1/128', '::/128'])],
  ['link-local', blocks(['169.254.0.0/16'], ['fe80::/10'])],
  ['private', blocks(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10'], ['fc00::/7'])],
];

/**
 * Refuses token services to which a hostile registry could send us, and our password, as its errand boy: plain HTTP
 * unless the registry itself is plain HTTP, and addresses of this machine or network unless the registry is there too.
 * `resolve` is left out when a proxy makes the connection: then only literal addresses can be judged.
 */
export async function checkRealm(realm: URL, registry: URL, resolve: Resolve | undefined = resolveHost): Promise<void> {
  const refuse = (why: string): never => {
    throw new LazypullError('UNAUTHORIZED', `the registry ${registry.host} names a token service that is not trusted: ${why}`, { path: safeUrl(realm) });
  };
  if (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && registry.protocol === 'http:')) refuse('it is not https');
  if (realm.username !== '' || realm.password !== '') refuse('its address holds a user name');
  if (realm.host === registry.host) return;
  const reach = await reachOf(realm.hostname, resolve);
  if (reach.has('public') && reach.size === 1) return;
  const own = await reachOf(registry.hostname, resolve);
  if (reach.has('loopback') && !own.has('loopback')) refuse('it is on this machine, the registry is not');
  if (reach.has('link-local') && !own.has('link-local')) refuse('it has a link-local address');
  if (reach.has('private') && !own.has('private') && !own.has('loopback')) refuse('it is on a private network, the registry is not');
}

async function reachOf(hostname: string, resolve: Resolve | undefined): Promise<Set<Reach>> {
  const host = hostname.replace(/^\[|\]$/g, '').toLowerCase().replace(/\.$/, '');
  if (host === 'localhost' || host.endsWith('.localhost')) return new Set(['loopback']);
  if (isIP(host) !== 0) return new Set([classify(host)]);
  const addresses = resolve ? await resolve(host) : [];
  return new Set(addresses.length === 0 ? ['public'] : addresses.map(classify));
}

function classify(address: string): Reach {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  // BlockList sees through IPv4-mapped IPv6 addresses by itself.
  for (const [reach, list] of BLOCKS) if (list.check(address, family)) return reach;
  return 'public';
}

async function resolveHost(host: string): Promise<readonly string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    // The connection will fail by itself and say so.
    return [];
  }
}

function blocks(v4: readonly string[], v6: readonly string[]): BlockList {
  const list = new BlockList();
  for (const [type, subnets] of [['ipv4', v4], ['ipv6', v6]] as const) {
    for (const subnet of subnets) {
      const [network = '', bits = '0'] = subnet.split('/');
      list.addSubnet(network, Number(bits), type);
    }
  }
  return list;
}
