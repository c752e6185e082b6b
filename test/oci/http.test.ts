import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { collect } from '../../src/core/stream.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, scripted, type Client } from './scripted.ts';
import { blobOf, noise, pushBytes, pushImage, rejectsWith } from './store-contract.ts';
import type { RegistryOptions } from '../../src/oci/registry-options.ts';

const creds = { username: 'user', password: 'pass:word' };

async function withRegistry(faults: FaultRegistryOptions, body: (registry: FaultRegistry, client: Client) => Promise<void>, options: RegistryOptions = {}): Promise<void> {
  const registry = await startFaultRegistry(faults);
  const one = client(registry.host, 'app', options);
  try {
    await body(registry, one);
  } finally {
    await one.store.close();
    await registry.close();
  }
}

describe('retries', () => {
  it('outlast a burst of failures', async () => {
    await withRegistry({}, async (registry, { store, delays }) => {
      const { manifest } = await pushImage(store, 1);
      for (const fault of [{ kind: 'status', status: 500 }, { kind: 'status', status: 503 }, { kind: 'status', status: 502 }, { kind: 'reset' }] as const) {
        delays.length = 0;
        registry.inject({ fault, times: 3 });
        assert.equal((await store.resolve(manifest.digest)).digest, manifest.digest);
        assert.deepEqual(delays, [250, 500, 1000]);
        registry.heal();
      }
    });
  });

  it('end after five tries, with the last failure', async () => {
    await withRegistry({}, async (registry, { store, delays }) => {
      registry.inject({ fault: { kind: 'status', status: 503, code: 'BUSY' } });
      await rejectsWith(store.tags(), 'NETWORK', /GET answered 503: BUSY: busy \(fault\) \(http:\/\/127\.0\.0\.1:\d+\/v2\/app\/tags\/list\)/);
      assert.equal(registry.log.length, 5);
      assert.deepEqual(delays, [250, 500, 1000, 2000]);
    });
  });

  it('do not repeat what will not change', async () => {
    await withRegistry({}, async (registry, { store }) => {
      for (const status of [400, 409, 418]) {
        registry.log.length = 0;
        registry.inject({ fault: { kind: 'status', status } });
        await rejectsWith(store.tags(), 'NETWORK', new RegExp(`answered ${status}`));
        assert.equal(registry.log.length, 1);
        registry.heal();
      }
    });
  });

  it('wait as long as a 429 says, in seconds or until a date', async () => {
    await withRegistry({}, async (registry, { store, delays }) => {
      const { manifest } = await pushImage(store, 1);
      registry.inject({ fault: { kind: 'status', status: 429, retryAfter: 7 }, times: 1 });
      await store.resolve(manifest.digest);
      assert.deepEqual(delays, [7000]);
      registry.inject({ fault: { kind: 'status', status: 429, retryAfter: new Date(Date.now() + 20_000) }, times: 1 });
      await store.resolve(manifest.digest);
      assert.ok(Math.abs((delays[1] ?? 0) - 20_000) < 5000, String(delays[1]));
      registry.inject({ fault: { kind: 'status', status: 429, retryAfter: 86_400, code: 'TOOMANYREQUESTS' } });
      await rejectsWith(store.tags(), 'NETWORK', /TOOMANYREQUESTS.*asks to wait 86400 s/);
    });
  });

  it('say what is wrong with a connection', async () => {
    const none = client('127.0.0.1:1').store;
    await rejectsWith(none.tags(), 'NETWORK', /^GET failed: connection refused \(http:\/\/127\.0\.0\.1:1\/v2\/team\/app\/tags\/list\)$/);
    await none.close();
    const nowhere = client('does-not-exist.invalid', 'app', { retry: { attempts: 1 } }).store;
    await rejectsWith(nowhere.tags(), 'NETWORK', /name cannot be resolved/);
    await nowhere.close();
  });

  it('do not wait for ever for a first byte or for the next one', async () => {
    const timeouts = { connect: 1000, firstByte: 300, idle: 300 };
    await withRegistry({}, async (registry, { store }) => {
      const descriptor = await pushBytes(store, noise(300_000));
      registry.inject({ fault: { kind: 'stall', after: 1000 }, method: 'GET' });
      await rejectsWith(collect(store.fetch(descriptor), 1 << 20), 'NETWORK', /stood still/);
    }, { timeouts, retry: { attempts: 1 } });
    const silent = await scripted(() => undefined);
    const { store } = client(silent.host, 'app', { timeouts, retry: { attempts: 1 } });
    await rejectsWith(store.tags(), 'NETWORK', /no answer in time/);
    await store.close();
    await silent.close();
  });
});

describe('credentials', () => {
  it('are found out about by challenge, once', async () => {
    await withRegistry({ auth: 'bearer', anonymousPull: false }, async (registry, { store }) => {
      await pushImage(store, 1);
      await pushImage(store, 2);
      assert.equal(registry.requests(undefined).filter(({ status }) => status === 401).length, 1);
      assert.equal(registry.tokensIssued(), 1);
    }, { creds });
  });

  it('are renewed when tokens expire, in the middle of uploads, too', async () => {
    await withRegistry({ auth: 'bearer', anonymousPull: false, tokenUses: 2 }, async (registry, { store }) => {
      const { manifest } = await pushImage(store, 1);
      const bytes = noise(20_000_000);
      const big = await store.ingest('application/x', async (sink) => {
        for (let at = 0; at < bytes.length; at += 1 << 20) await sink(bytes.subarray(at, at + (1 << 20)));
      });
      assert.equal(big.digest, blobOf(bytes).digest);
      await store.tag(manifest, 'v1');
      assert.ok(registry.tokensIssued() > 4);
    }, { creds });
  });

  it('are not shown when they are refused, and the refusal is final', async () => {
    for (const auth of ['basic', 'bearer'] as const) {
      await withRegistry({ auth, anonymousPull: false }, async (registry, { store }) => {
        await assert.rejects(store.resolve('v1'), (error: Error & { code?: string }) => {
          assert.equal(error.code, 'UNAUTHORIZED');
          assert.match(error.message, auth === 'basic' ? /the credentials for 127\.0\.0\.1:\d+ are refused: HEAD answered 401/ : /the token service refused: GET answered 401/);
          assert.doesNotMatch(`${error.message} ${error.stack}`, /wrong-secret/);
          return true;
        });
        assert.ok(registry.log.length <= 3, String(registry.log.length));
      }, { creds: { username: 'user', password: 'wrong-secret' } });
    }
  });

  it('that are missing are said to be', async () => {
    await withRegistry({ auth: 'basic' }, async (_, { store }) => {
      await rejectsWith(store.resolve('v1'), 'UNAUTHORIZED', /no credentials for 127\.0\.0\.1:\d+ were found/);
    });
  });

  it('that are for someone else end in one 401 more', async () => {
    const answer = { kind: 'status', status: 401, headers: { 'WWW-Authenticate': 'Basic realm="x"' } } as const;
    await withRegistry({}, async (registry, { store }) => {
      registry.inject({ fault: answer });
      await rejectsWith(store.tags(), 'UNAUTHORIZED', /are refused/);
      assert.equal(registry.log.length, 2);
    }, { creds });
  });

  it('of an identity token go by POST, or by GET where that is unknown', async () => {
    const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs');
    const { join } = await import('node:path');
    const { tmpdir } = await import('node:os');
    const folder = mkdtempSync(join(tmpdir(), 'lazypull-http-'));
    for (const tokenPost of ['taken', 'refused'] as const) {
      const registry = await startFaultRegistry({ auth: 'bearer', anonymousPull: false, identityToken: 'refresh-me', tokenPost, ...(tokenPost === 'refused' ? { password: 'refresh-me' } : {}) });
      const authFile = join(folder, 'auth.json');
      writeFileSync(authFile, JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from('user:').toString('base64'), identitytoken: 'refresh-me' } } }));
      const { store } = client(registry.host, 'app', { authFile });
      await pushImage(store, 1);
      assert.deepEqual(registry.requests(undefined, /^\/token/).map(({ method }) => method), tokenPost === 'taken' ? ['POST'] : ['POST', 'GET']);
      await store.close();
      await registry.close();
    }
    rmSync(folder, { recursive: true });
  });
});

describe('redirects', () => {
  it('keep the token at the registry', async () => {
    for (const redirectStatus of [301, 302, 303, 307, 308] as const) {
      await withRegistry({ auth: 'bearer', redirectBlobs: true, redirectStatus }, async (registry, { store }) => {
        const bytes = noise(100_000);
        const descriptor = await pushBytes(store, bytes);
        assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), bytes.length)), bytes);
        assert.deepEqual(Buffer.from(await store.open(descriptor).read(500, 600)), bytes.subarray(500, 1100));
        const elsewhere = registry.log.filter(({ origin, method }) => origin === 'other' && method === 'GET');
        assert.ok(elsewhere.length >= 2);
        assert.ok(elsewhere.every(({ headers, status }) => headers.authorization === undefined && status < 300));
        assert.equal(elsewhere.at(-1)?.headers.range, 'bytes=500-1099');
      }, { creds });
    }
  });

  it('are remembered for a blob, until they expire', async () => {
    await withRegistry({ redirectBlobs: true, redirectUses: 3 }, async (registry, { store }) => {
      const descriptor = await pushBytes(store, noise(100_000));
      registry.log.length = 0;
      const source = store.open(descriptor);
      for (let i = 0; i < 3; i++) await source.read(i * 100, 100);
      assert.deepEqual(registry.log.map(({ origin }) => origin), ['registry', 'other', 'other', 'other']);
      // The fourth is refused by the old address: back to the registry, and no failure.
      registry.log.length = 0;
      await source.read(0, 100);
      assert.deepEqual(registry.log.map(({ origin, status }) => [origin, status]), [['other', 403], ['registry', 307], ['other', 206]]);
    });
  });

  it('are not followed for ever, to plain HTTP, or into the void', async () => {
    const ends: readonly (readonly [Record<string, string>, RegExp])[] = [
      [{}, /without a usable address/],
      [{ location: 'http://' }, /without a usable address/],
      [{ location: 'file:///etc/passwd' }, /not http: file:/],
      [{ location: '/v2/team/app/tags/list?again' }, /more than 10 times/],
    ];
    for (const [headers, why] of ends) {
      const server = await scripted((_, response) => response.writeHead(302, headers).end());
      const { store } = client(server.host);
      await rejectsWith(store.tags(), 'NETWORK', why);
      assert.ok(server.seen.length <= 11);
      await store.close();
      await server.close();
    }
  });

  it('lose an upload only when the server means it', async () => {
    const server = await scripted(({ url }, response) => {
      if (url.pathname.endsWith('/uploads/')) return response.writeHead(307, { location: '/elsewhere' }).end();
      if (url.pathname === '/elsewhere') return response.writeHead(202, { location: '/upload/1' }).end();
      if (url.pathname === '/upload/1') return response.writeHead(308, { location: '/upload/2?x=1' }).end();
      return response.writeHead(url.pathname === '/upload/2' ? 201 : 404).end();
    });
    const { store } = client(server.host);
    const bytes = noise(5000);
    await pushBytes(store, bytes);
    const last = server.seen.at(-1);
    assert.equal(last?.method, 'PUT');
    assert.deepEqual(last?.body, bytes);
    await store.close();
    await server.close();
    const careless = await scripted(({ method }, response) => response.writeHead(method === 'HEAD' ? 404 : 302, { location: '/x' }).end());
    const other = client(careless.host).store;
    await rejectsWith(pushBytes(other, bytes), 'NETWORK', /loses its body/);
    await other.close();
    await careless.close();
  });
});

describe('a registry\'s manners', () => {
  it('its warnings are passed on once each', async () => {
    await withRegistry({}, async (registry, { store, warnings }) => {
      const { manifest } = await pushImage(store, 1);
      registry.inject({ fault: { kind: 'headers', headers: { Warning: '299 - "closing soon", 299 - "really"' } } });
      for (let i = 0; i < 3; i++) await store.resolve(manifest.digest);
      assert.deepEqual(warnings, ['closing soon', 'really']);
    });
  });

  it('is asked a limited number of things at a time', async () => {
    let active = 0;
    let most = 0;
    const server = await scripted(async (_, response) => {
      most = Math.max(most, ++active);
      await new Promise((resolve) => setTimeout(resolve, 10));
      active -= 1;
      response.writeHead(404).end();
    });
    const { store } = client(server.host, 'app', { concurrency: 2 });
    await Promise.all(Array.from({ length: 10 }, (_, i) => store.has(blobOf(noise(i + 1)))));
    assert.equal(most, 2);
    await store.close();
    await server.close();
  });

  it('keeps its connections busy', async () => {
    await withRegistry({}, async (registry, { store }) => {
      const descriptor = await pushBytes(store, noise(100_000));
      for (let i = 0; i < 10; i++) {
        await store.has(descriptor);
        await store.open(descriptor).read(i, 10);
      }
      assert.ok(registry.log.every(({ headers }) => headers.connection === 'keep-alive'));
      assert.match(registry.log[0]?.headers['user-agent'] ?? '', /^lazypull\/\d/);
      assert.equal(registry.log[0]?.headers['accept-encoding'], 'identity');
    });
  });

  it('is not waited for by streams that nobody reads', async () => {
    await withRegistry({}, async (_, { store }) => {
      const descriptor = await pushBytes(store, noise(12_000_000));
      const stalled = [1, 2].map(() => store.fetch(descriptor));
      for (const stream of stalled) await stream.next();
      // Both places are taken by streams that stand still; the third request gets through all the same.
      assert.equal(await store.has(descriptor), true);
      for (const stream of stalled) await stream.return(undefined);
    }, { concurrency: 2 });
  });
});
