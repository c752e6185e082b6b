import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, it } from 'node:test';
import { collect } from '../../src/core/stream.ts';
import { proxyAuthorization, proxyFor } from '../../src/oci/proxy.ts';
import { startFaultRegistry } from '../support/fault-registry.ts';
import { client, emptyEnv, scripted } from './scripted.ts';
import { noise, pushBytes, rejectsWith } from './store-contract.ts';

describe('proxyFor', () => {
  const cases: readonly (readonly [string, Record<string, string>, string | undefined])[] = [
    ['https://r.io/', {}, undefined],
    ['https://r.io/', { HTTPS_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://r.io/', { https_proxy: 'http://low:1', HTTPS_PROXY: 'http://up:1' }, 'http://low:1/'],
    ['https://r.io/', { HTTP_PROXY: 'http://p:1' }, undefined],
    ['http://r.io/', { HTTP_PROXY: 'p:8080' }, 'http://p:8080/'],
    ['https://localhost:5000/', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['https://127.0.0.1/', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['https://r.io/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }, undefined],
    ['https://r.io/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'x.io, r.io' }, undefined],
    ['https://a.r.io/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'r.io' }, undefined],
    ['https://a.r.io/', { HTTPS_PROXY: 'http://p:1', no_proxy: '.r.io' }, undefined],
    ['https://xr.io/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'r.io' }, 'http://p:1/'],
    ['https://r.io:5000/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'r.io:443' }, 'http://p:1/'],
    ['https://r.io/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'r.io:443' }, undefined],
    ['https://10.1.2.3/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8' }, undefined],
    ['https://11.1.2.3/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8,bad/99,x/y' }, 'http://p:1/'],
    ['https://[fd00::1]/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'fd00::/8' }, undefined],
    ['https://[fd00::1]:5/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '[fd00::1]:5' }, undefined],
  ];
  for (const [url, env, expected] of cases) {
    it(`${url} with ${JSON.stringify(env)}`, () => assert.equal(proxyFor(new URL(url), env)?.href, expected));
  }

  it('refuses what is no proxy, without repeating it', () => {
    for (const value of ['socks5://user:hunter2@p:1', 'http://', 'http://a b']) {
      assert.throws(() => proxyFor(new URL('https://r.io'), { HTTPS_PROXY: value }), (error: Error) => /https_proxy/.test(error.message) && !/hunter2/.test(error.message));
    }
  });

  it('makes the header of the user info', () => {
    assert.equal(proxyAuthorization(new URL('http://p:1')), undefined);
    assert.equal(proxyAuthorization(new URL('http://u%40x:p%3Aw@p:1')), `Basic ${Buffer.from('u@x:p:w').toString('base64')}`);
    assert.equal(proxyAuthorization(new URL('http://token@p:1')), `Basic ${Buffer.from('token:').toString('base64')}`);
  });
});

describe('a registry behind a proxy', () => {
  it('is reached by plain requests to the proxy, whose password stays there', async () => {
    const registry = await startFaultRegistry();
    const proxy = await scripted((request, response) => {
      if (request.headers['proxy-authorization'] !== `Basic ${Buffer.from('me:secret').toString('base64')}`) return response.writeHead(407).end();
      const [, port] = registry.host.split(':');
      const onward = connect(Number(port), '127.0.0.1', () => {
        const { 'proxy-authorization': _, connection: __, ...headers } = request.headers;
        const lines = Object.entries({ ...headers, connection: 'close' }).map(([name, value]) => `${name}: ${String(value)}\r\n`).join('');
        onward.write(`${request.method} ${request.url.pathname}${request.url.search} HTTP/1.1\r\n${lines}\r\n`);
        onward.write(request.body);
      });
      // What the registry says goes back as it is.
      return onward.pipe(response.socket as Duplex);
    });
    // A name that no resolver knows: only the proxy can have taken us there.
    const { store } = client('registry.invalid', 'app', { env: emptyEnv({ HTTP_PROXY: `http://me:secret@${proxy.host}` }) });
    const bytes = noise(300_000);
    const descriptor = await pushBytes(store, bytes);
    assert.deepEqual(Buffer.from(await collect(store.fetch(descriptor), bytes.length)), bytes);
    assert.ok(proxy.seen.length > 0 && proxy.seen.every(({ headers }) => headers.host === 'registry.invalid'));
    const wrong = client('registry.invalid', 'app', { env: emptyEnv({ HTTP_PROXY: `http://me:hunter2@${proxy.host}` }) }).store;
    await rejectsWith(wrong.has(descriptor), 'NETWORK', /^(?!.*hunter2)/);
    for (const one of [store, wrong]) await one.close();
    await proxy.close();
    await registry.close();
  });

  it('is reached through a tunnel when it speaks TLS', async (t) => {
    const registry = await startFaultRegistry({ tls: true }).catch(() => undefined);
    if (!registry?.certificates) return t.skip('openssl is not installed');
    const tunnels: string[] = [];
    const proxy = createServer();
    proxy.on('connect', (request: IncomingMessage, socket: Duplex) => {
      tunnels.push(request.url ?? '');
      const onward = connect(Number(registry.host.split(':')[1]), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        socket.pipe(onward).pipe(socket);
      });
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
    });
    await new Promise<void>((resolve) => {
      proxy.listen(0, '127.0.0.1', resolve);
    });
    const env = emptyEnv({ HTTPS_PROXY: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` });
    const { store } = client('registry.invalid', 'app', { plainHttp: false, tlsSkipVerify: true, env });
    await pushBytes(store, noise(1000));
    assert.deepEqual([...new Set(tunnels)], ['registry.invalid:443']);
    await store.close();
    await new Promise<void>((resolve) => {
      proxy.close(() => resolve());
      proxy.closeAllConnections();
    });
    await registry.close();
    return undefined;
  });
});
