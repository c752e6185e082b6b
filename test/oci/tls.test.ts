import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { openRegistry } from '../../src/oci/registry.ts';
import type { RegistryOptions } from '../../src/oci/registry-options.ts';
import { loadTls } from '../../src/oci/tls.ts';
import { startFaultRegistry, type FaultRegistry } from '../support/fault-registry.ts';
import type { Certificates } from '../support/tls.ts';
import { emptyEnv } from './scripted.ts';
import { blobOf, noise, rejectsWith } from './store-contract.ts';

type Secure = FaultRegistry & { readonly certificates: Certificates };

async function withTls(t: TestContext, tls: true | 'client', body: (registry: Secure, folder: string) => Promise<void>): Promise<void> {
  let registry: FaultRegistry;
  try {
    registry = await startFaultRegistry({ tls });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return t.skip('openssl is not installed');
    throw error;
  }
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-tls-'));
  try {
    await body(registry as Secure, folder);
  } finally {
    rmSync(folder, { recursive: true });
    await registry.close();
  }
}

async function reach(host: string, options: RegistryOptions): Promise<boolean> {
  const store = openRegistry({ domain: host, path: 'app' }, { env: emptyEnv(), retry: { attempts: 1 }, ...options });
  try {
    return await store.has(blobOf(noise(5)));
  } finally {
    await store.close();
  }
}

describe('TLS', () => {
  it('trusts a private authority only when told to', async (t) => {
    await withTls(t, true, async ({ host, certificates }) => {
      await rejectsWith(reach(host, {}), 'NETWORK', /authority that is not trusted here \(--tls-ca FILE adds one\)/);
      assert.equal(await reach(host, { tlsCa: certificates.caFile }), false);
      assert.equal(await reach(host, { tlsSkipVerify: true }), false);
      assert.equal(await reach(host, { env: emptyEnv({ SSL_CERT_FILE: certificates.caFile }) }), false);
      assert.equal(await reach(host, { env: emptyEnv({ NODE_EXTRA_CA_CERTS: certificates.caFile }) }), false);
      await rejectsWith(reach(host, { plainHttp: true }), 'NETWORK');
    });
  });

  it('reads the certificates that container tools keep for a host', async (t) => {
    await withTls(t, 'client', async ({ host, certificates }, folder) => {
      const certs = join(folder, '.config/containers/certs.d', host);
      mkdirSync(certs, { recursive: true });
      writeFileSync(join(certs, 'ca.crt'), certificates.ca);
      const options = { env: { ...emptyEnv(), HOME: folder } };
      await assert.rejects(reach(host, options), /alert|cut|certificate/i);
      writeFileSync(join(certs, 'me.cert'), certificates.clientCert);
      await rejectsWith(reach(host, options), 'USAGE', /needs both its \.cert and its \.key: me\.key is missing/);
      writeFileSync(join(certs, 'me.key'), certificates.clientKey);
      assert.equal(await reach(host, options), false);
    });
  });

  it('says which file is no certificate', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lazypull-tls-'));
    const bad = join(folder, 'bad.pem');
    writeFileSync(bad, 'hello');
    await rejectsWith(loadTls('h', { ca: [bad], env: emptyEnv() }), 'USAGE', /no PEM certificate.*bad\.pem/);
    writeFileSync(bad, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    await rejectsWith(loadTls('h', { ca: [bad], env: emptyEnv() }), 'USAGE', /no certificate that can be read/);
    await rejectsWith(loadTls('h', { ca: [join(folder, 'none')], env: emptyEnv() }), 'IO', /none/);
    rmSync(folder, { recursive: true });
  });

  it('is not taken for plain HTTP on this machine when only its certificate is wrong', async (t) => {
    await withTls(t, true, async ({ host, log }) => {
      await rejectsWith(reach(host, {}), 'NETWORK', /^HEAD failed: its certificate/);
      assert.equal(log.length, 0);
    });
  });

  it('is told from its absence', async () => {
    const registry = await startFaultRegistry();
    // Not a name of this machine, but leads here all the same.
    await rejectsWith(reach(registry.host.replace('127.0.0.1', '0.0.0.0'), {}), 'NETWORK', /does not speak TLS \(--plain-http is for such registries\)/);
    await registry.close();
  });
});
