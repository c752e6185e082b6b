import { hostname as machineName } from 'node:os';
import { readFileSync } from 'node:fs';

/** Files below /etc that say who and where a container is; text by name. Those of the image are hidden by them. */
export function networkFiles(net: 'host' | 'none', hostname: string, etc = '/etc'): ReadonlyMap<string, string> {
  const files = new Map([['hostname', `${hostname}\n`]]);
  const own = net === 'host' ? read(`${etc}/hosts`) : undefined;
  const hosts = own ?? '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n';
  files.set('hosts', knows(hosts, hostname) ? hosts : `${hosts}${hosts.endsWith('\n') ? '' : '\n'}127.0.1.1\t${hostname}\n`);
  const resolv = net === 'host' ? read(`${etc}/resolv.conf`) : undefined;
  if (resolv !== undefined) files.set('resolv.conf', resolv);
  return files;
}

/** The container's name unless the user chooses one: with the machine's network goes the machine's name. */
export function defaultHostname(net: 'host' | 'none', id: string): string {
  return net === 'host' ? machineName() : id;
}

/** A name that can stand in all of these files: RFC 1123, 63 bytes at most as sethostname(2) has it. */
export function isHostname(name: string): boolean {
  return name.length <= 63 && /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name);
}

function knows(hosts: string, name: string): boolean {
  return hosts.split('\n').some((line) => (line.split('#')[0] as string).trim().split(/\s+/).slice(1).includes(name));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
