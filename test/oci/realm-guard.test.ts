import { describe, it } from 'node:test';
import { checkRealm } from '../../src/oci/realm-guard.ts';
import { rejectsWith } from './store-contract.ts';

const NAMES: Readonly<Record<string, readonly string[]>> = {
  'public.io': ['93.184.216.34', '2606:2800:220:1::1'],
  'auth.public.io': ['93.184.216.35'],
  'corp.example': ['10.1.2.3'],
  'auth.corp.example': ['10.9.9.9'],
  'rebind.io': ['93.184.216.34', '127.0.0.1'],
  'mapped.io': ['::ffff:169.254.169.254'],
};
const resolve = async (host: string): Promise<readonly string[]> => NAMES[host] ?? [];

function check(realm: string, registry: string): Promise<void> {
  return checkRealm(new URL(realm), new URL(registry), resolve);
}

describe('checkRealm', () => {
  for (const [realm, registry] of [
    ['https://auth.public.io/token', 'https://public.io'],
    ['https://public.io/token', 'https://public.io'],
    ['https://auth.corp.example/t', 'https://corp.example'],
    ['https://auth.public.io/t', 'https://corp.example'],
    ['http://127.0.0.1:5001/t', 'http://127.0.0.1:5000'],
    ['http://localhost:5001/t', 'http://127.0.0.1:5000'],
    ['https://[::1]:5001/t', 'https://localhost:5000'],
    ['https://10.0.0.5/t', 'https://localhost:5000'],
    ['https://192.168.1.1/t', 'https://192.168.1.2'],
    ['https://unresolvable.io/t', 'https://public.io'],
    ['http://192.168.1.1:5000/t', 'http://192.168.1.1:5000'],
  ] as const) it(`${registry} may name ${realm}`, () => check(realm, registry));

  for (const [realm, registry, why] of [
    ['http://auth.public.io/token', 'https://public.io', /not https/],
    ['ftp://auth.public.io/token', 'http://public.io', /not https/],
    ['https://localhost/t', 'https://public.io', /on this machine/],
    ['https://127.0.0.1/t', 'https://public.io', /on this machine/],
    ['https://2130706433/t', 'https://public.io', /on this machine/],
    ['https://0.0.0.0/t', 'https://public.io', /on this machine/],
    ['https://[::1]/t', 'https://public.io', /on this machine/],
    ['https://[::ffff:127.0.0.1]/t', 'https://public.io', /on this machine/],
    ['https://localhost./t', 'https://public.io', /on this machine/],
    ['https://rebind.io/t', 'https://public.io', /on this machine/],
    ['https://127.0.0.1/t', 'https://corp.example', /on this machine/],
    ['https://169.254.169.254/t', 'https://public.io', /link-local/],
    ['https://mapped.io/t', 'https://corp.example', /link-local/],
    ['https://[fe80::1]/t', 'https://corp.example', /link-local/],
    ['https://10.0.0.5/t', 'https://public.io', /private network/],
    ['https://auth.corp.example/t', 'https://public.io', /private network/],
    ['https://[fd00::1]/t', 'https://public.io', /private network/],
    ['https://user:pw@auth.public.io/t', 'https://public.io', /user name/],
  ] as const) it(`${registry} may not name ${realm}`, () => rejectsWith(check(realm, registry), 'UNAUTHORIZED', why));
});
