import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { collect } from '../../src/core/stream.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, scripted, type Client } from './scripted.ts';
import { blobOf, noise, pushBytes, rejectsWith } from './store-contract.ts';

const bytes = noise(3_000_000);
const descriptor: Descriptor = blobOf(bytes);

async function withBlob(faults: FaultRegistryOptions, body: (registry: FaultRegistry, client: Client) => Promise<void>): Promise<void> {
  const registry = await startFaultRegistry(faults);
  const one = client(registry.host);
  try {
    await pushBytes(one.store, bytes);
    registry.log.length = 0;
    await body(registry, one);
  } finally {
    await one.store.close();
    await registry.close();
  }
}

async function fetched({ store }: Client): Promise<Buffer> {
  return Buffer.from(await collect(store.fetch(descriptor), 2 * bytes.length));
}

describe('fetching a blob', () => {
  it('goes on where a connection was cut', async () => {
    await withBlob({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset', after: 1_000_000 }, method: 'GET', times: 2 });
      assert.ok((await fetched(one)).equals(bytes));
      assert.deepEqual(registry.log.map(({ headers }) => headers.range ?? ''), ['', 'bytes=1000000-2999999', 'bytes=2000000-2999999']);
    });
  });

  it('fails any number of times as long as it gets on', async () => {
    await withBlob({ redirectBlobs: true }, async (registry, one) => {
      const many = client(registry.host, 'team/app', { retry: { attempts: 2, sleep: async () => undefined } });
      // Each try gets a mebibyte and a bit: enough to be forgiven.
      registry.inject({ fault: { kind: 'reset', after: 1_100_000 }, path: /cdn/ });
      assert.ok((await fetched(many)).equals(bytes));
      assert.equal(registry.requests('GET', /cdn/).length, 3);
      registry.heal();
      registry.inject({ fault: { kind: 'reset', after: 100_000 }, path: /cdn/ });
      await rejectsWith(fetched(one), 'NETWORK', /the connection was cut/);
      await many.store.close();
    });
  });

  it('skips what it has when the server sends it again', async () => {
    await withBlob({ ranges: 'ignored' }, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset', after: 2_000_000 }, method: 'GET', times: 1 });
      assert.ok((await fetched(one)).equals(bytes));
      assert.equal(registry.requests('GET').length, 2);
    });
  });

  it('does not trust the rest of a cut transfer blindly', async () => {
    await withBlob({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset', after: 1_000_000 }, method: 'GET', times: 1 });
      registry.inject({ fault: { kind: 'flip', at: 5 }, method: 'GET', skip: 1 });
      await rejectsWith(fetched(one), 'DIGEST_MISMATCH');
    });
    await withBlob({ ranges: 'wrong' }, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset', after: 1_000_000 }, method: 'GET', times: 1 });
      await rejectsWith(fetched(one), 'CORRUPT', /bytes 1000000-2999999\/3000000 were asked for/);
    });
  });

  it('tells too short, too long and wrong apart', async () => {
    await withBlob({}, async (registry, one) => {
      const cases = [
        [{ kind: 'shorten', bytes: 10 }, 'SIZE_MISMATCH', /ends early/],
        [{ kind: 'lengthen', bytes: 10 }, 'SIZE_MISMATCH', /is longer/],
        [{ kind: 'flip', at: 2_999_999 }, 'DIGEST_MISMATCH', /has digest/],
      ] as const;
      for (const [fault, code, why] of cases) {
        registry.log.length = 0;
        registry.inject({ fault, method: 'GET' });
        await rejectsWith(fetched(one), code, why);
        assert.equal(registry.log.length, 1, 'a lie is not asked for again');
        registry.heal();
      }
    });
  });

  it('finds out without Content-Length, too', async () => {
    const answers: readonly (readonly [Uint8Array, string, RegExp])[] = [
      [bytes.subarray(0, 1000), 'SIZE_MISMATCH', /ends early/],
      [Buffer.concat([bytes, bytes]), 'SIZE_MISMATCH', /is longer/],
      [noise(bytes.length, 2), 'DIGEST_MISMATCH', /has digest/],
    ];
    for (const [content, code, why] of answers) {
      const server = await scripted((_, response) => {
        response.writeHead(200);
        response.write(content.subarray(0, 500));
        response.end(content.subarray(500));
      });
      const one = client(server.host);
      await assert.rejects(fetched(one), (error: unknown) => error instanceof LazypullError && error.code === code && why.test(error.message));
      assert.equal(server.seen.length, 1);
      await one.store.close();
      await server.close();
    }
  });

  it('takes the end of a connection for the end of a body only if the size is right', async () => {
    const server = await scripted(({ headers }, response) => {
      const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      const socket = response.socket;
      const range = from > 0 ? `Content-Range: bytes ${from}-${bytes.length - 1}/${bytes.length}\r\n` : '';
      socket?.write(`HTTP/1.1 ${from > 0 ? 206 : 200} OK\r\nConnection: close\r\n${range}\r\n`);
      socket?.end(bytes.subarray(from, from + 2_000_000));
    });
    const one = client(server.host);
    assert.ok((await fetched(one)).equals(bytes));
    assert.equal(server.seen.length, 2);
    await one.store.close();
    await server.close();
  });

  it('says that the blob is not there', async () => {
    await withBlob({}, async (_, { store }) => {
      await rejectsWith(collect(store.fetch(blobOf(noise(7))), 10), 'NOT_FOUND', /blob sha256:[0-9a-f]{64} of docker:\/\/127.* is not there, or there is no access to it: GET answered 404/);
    });
  });
});

describe('reading ranges of a blob', () => {
  it('checks that it gets what it asked for', async () => {
    for (const [ranges, code] of [['wrong', 'CORRUPT'], ['wrong-total', 'SIZE_MISMATCH']] as const) {
      await withBlob({ ranges }, async (registry, { store }) => {
        await rejectsWith(store.open(descriptor).read(1000, 1000), code, /bytes 1000-1999\/3000000 were asked for/);
        assert.equal(registry.log.length, 1);
      });
    }
  });

  const lies: readonly (readonly [string, number, Record<string, string>, Uint8Array, string])[] = [
    ['no Content-Range', 206, {}, bytes.subarray(10, 30), 'CORRUPT'],
    ['a malformed Content-Range', 206, { 'content-range': 'bytes what' }, bytes.subarray(10, 30), 'CORRUPT'],
    ['other bytes', 206, { 'content-range': 'bytes 11-30/3000000' }, bytes.subarray(11, 31), 'CORRUPT'],
    ['other bytes before', 206, { 'content-range': 'bytes 9-29/3000000' }, bytes.subarray(9, 29), 'CORRUPT'],
    ['fewer bytes', 206, { 'content-range': 'bytes 10-19/3000000' }, bytes.subarray(10, 20), 'CORRUPT'],
    ['more bytes', 206, { 'content-range': 'bytes 10-29/3000000', 'content-length': '21' }, bytes.subarray(10, 31), 'CORRUPT'],
    ['fewer bytes than it says', 206, { 'content-range': 'bytes 10-29/3000000', 'transfer-encoding': 'chunked' }, bytes.subarray(10, 25), 'SIZE_MISMATCH'],
    ['more bytes than it says', 206, { 'content-range': 'bytes 10-29/3000000', 'transfer-encoding': 'chunked' }, bytes.subarray(10, 45), 'CORRUPT'],
    ['several parts', 206, { 'content-type': 'multipart/byteranges; boundary=x' }, Buffer.from('--x'), 'CORRUPT'],
    ['a whole of another size', 200, { 'content-length': '10' }, noise(10), 'SIZE_MISMATCH'],
    ['416', 416, { 'content-range': 'bytes */12' }, Buffer.alloc(0), 'SIZE_MISMATCH'],
    ['no content', 204, {}, Buffer.alloc(0), 'NETWORK'],
  ];
  for (const [name, status, headers, body, code] of lies) {
    it(`is not taken in by ${name}`, async () => {
      const server = await scripted((_, response) => response.writeHead(status, headers).end(body));
      const { store } = client(server.host);
      await assert.rejects(store.open(descriptor).read(10, 20), (error: unknown) => error instanceof LazypullError && error.code === code, code);
      assert.equal(server.seen.length, 1);
      await store.close();
      await server.close();
    });
  }

  it('accepts a total that is not told', async () => {
    const server = await scripted((_, response) => response.writeHead(206, { 'content-range': 'bytes 10-29/*' }).end(bytes.subarray(10, 30)));
    const { store } = client(server.host);
    assert.deepEqual(Buffer.from(await store.open(descriptor).read(10, 20)), bytes.subarray(10, 30));
    await store.close();
    await server.close();
  });

  it('lives with servers that ignore ranges, and says so once', async () => {
    await withBlob({ ranges: 'ignored' }, async (registry, { store, warnings }) => {
      const source = store.open(descriptor);
      for (const [offset, length] of [[0, 10], [1_000_000, 70_000], [2_999_990, 10]] as const) {
        assert.deepEqual(Buffer.from(await source.read(offset, length)), bytes.subarray(offset, offset + length));
      }
      assert.deepEqual(warnings, [`${registry.host} ignores ranges: every read transfers the blob from its start`]);
    });
  });

  it('asks for the whole without a range', async () => {
    await withBlob({}, async (registry, { store }) => {
      assert.ok(Buffer.from(await store.open(descriptor).read(0, bytes.length)).equals(bytes));
      assert.equal(registry.log[0]?.headers.range, undefined);
    });
  });

  it('asks again after a cut', async () => {
    await withBlob({}, async (registry, { store, delays }) => {
      registry.inject({ fault: { kind: 'reset', after: 100 }, method: 'GET', times: 2 });
      assert.deepEqual(Buffer.from(await store.open(descriptor).read(5000, 90_000)), bytes.subarray(5000, 95_000));
      assert.equal(delays.length, 2);
    });
  });

  it('ends when it is told to, and leaves the others alone', async () => {
    await withBlob({}, async (registry, { store }) => {
      registry.inject({ fault: { kind: 'stall', after: 10 }, method: 'GET', times: 1 });
      const source = store.open(descriptor);
      const controller = new AbortController();
      const slow = source.read(0, 100_000, controller.signal);
      while (registry.log.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const quick = await source.read(0, 1000);
      assert.deepEqual(Buffer.from(quick), bytes.subarray(0, 1000));
      controller.abort();
      await rejectsWith(slow, 'CANCELLED');
    });
  });

  it('refuses a read that no memory could hold', async () => {
    const { store } = client('127.0.0.1:1');
    await rejectsWith(store.open({ ...descriptor, size: 2 ** 40 }).read(0, 2 ** 39), 'LIMIT');
    await store.close();
  });
});
