import assert from 'node:assert/strict';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { collect, streamOf } from '../../src/core/stream.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { startFaultRegistry, type FaultRegistry, type FaultRegistryOptions } from '../support/fault-registry.ts';
import { client, scripted, type Client, type Scripted, type Seen } from './scripted.ts';
import { blobOf, noise, rejectsWith } from './store-contract.ts';

const MIB = 1024 * 1024;
/** What the client sends at once, unless the registry wants more. */
const PIECE = 5 * MIB;
const bytes = noise(20 * MIB + 12_345);
const descriptor = blobOf(bytes);
const some = bytes.subarray(0, 6 * MIB + 1);
const smaller = blobOf(some);

async function withRegistry(faults: FaultRegistryOptions, body: (registry: FaultRegistry, client: Client) => Promise<void>): Promise<void> {
  const registry = await startFaultRegistry(faults);
  const one = client(registry.host, 'app');
  try {
    await body(registry, one);
  } finally {
    await one.store.close();
    await registry.close();
  }
}

async function withServer(answer: (request: Seen, response: ServerResponse) => unknown, body: (server: Scripted, client: Client) => Promise<void>): Promise<void> {
  const server = await scripted(answer);
  const one = client(server.host, 'app');
  try {
    await body(server, one);
  } finally {
    await one.store.close();
    await server.close();
  }
}

/** Memory that is used again for each piece, as streams are allowed to do. */
async function* lent(content: Uint8Array, piece = 65_536): ByteStream {
  const memory = Buffer.alloc(piece);
  for (let at = 0; at < content.length; at += piece) {
    const part = content.subarray(at, at + piece);
    memory.fill(0xee);
    memory.set(part);
    yield memory.subarray(0, part.length);
  }
}

function ingest({ store }: Client, content: Uint8Array = bytes, signal?: AbortSignal): ReturnType<Client['store']['ingest']> {
  return store.ingest(descriptor.mediaType, async (sink) => {
    for await (const part of lent(content)) await sink(part);
  }, signal);
}

async function stored({ store }: Client, content: Buffer = bytes): Promise<boolean> {
  return Buffer.from(await collect(store.fetch(blobOf(content, descriptor.mediaType)), 2 * content.length)).equals(content);
}

const steps = (registry: FaultRegistry): string[] => registry.log.map(({ method, status }) => `${method} ${status}`);

describe('pushing a blob', () => {
  it('costs one look, one session and one PUT, and nothing when it is there', async () => {
    await withRegistry({}, async (registry, one) => {
      await one.store.push(smaller, () => lent(some));
      assert.deepEqual(steps(registry), ['HEAD 404', 'POST 202', 'PUT 201']);
      assert.ok(await stored(one, some));
      registry.log.length = 0;
      await one.store.push(smaller, () => assert.fail('not needed'));
      assert.deepEqual(steps(registry), ['HEAD 200']);
    });
  });

  it('copies what it is lent when the registry reads slowly', async (t) => {
    let received = Buffer.alloc(0);
    const server = createServer((request, response) => {
      if (request.method !== 'PUT') return void response.writeHead(request.method === 'HEAD' ? 404 : 202, { location: '/up' }).end();
      // Long enough for every buffer on the way to fill.
      setTimeout(async () => {
        received = Buffer.concat(await request.toArray());
        response.writeHead(201).end();
      }, 100);
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const { store } = client(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    await store.push(smaller, () => lent(some, 5000));
    assert.ok(received.equals(some));
    await store.close();
  });

  it('starts over after a failure, in a new session with a new stream', async () => {
    for (const fault of [{ kind: 'reset-upload', after: 5 * MIB }, { kind: 'status', status: 500 }, { kind: 'reset' }] as const) {
      await withRegistry({}, async (registry, one) => {
        registry.inject({ fault, method: 'PUT', times: 2 });
        let opened = 0;
        await one.store.push(smaller, () => {
          opened += 1;
          return lent(some);
        });
        // A connection may be gone before the stream was even looked at.
        assert.ok(opened >= 1 && opened <= 3, String(opened));
        assert.equal(registry.requests('POST').length, 3);
        assert.ok(await stored(one, some));
      });
    }
  });

  it('finds out that a PUT got through although its answer did not', async () => {
    let there = false;
    await withServer(({ method, body }, response) => {
      if (method === 'HEAD') return response.writeHead(there ? 200 : 404).end();
      if (method === 'POST') return response.writeHead(202, { location: '/up/1' }).end();
      if (method !== 'PUT') return response.writeHead(204).end();
      there = body.equals(some);
      return response.destroy();
    }, async (server, { store }) => {
      await store.push(smaller, () => lent(some));
      assert.deepEqual(server.seen.map(({ method }) => method), ['HEAD', 'POST', 'PUT', 'DELETE', 'HEAD']);
    });
  });

  it('keeps the opaque state of a session as it is', async () => {
    await withServer(({ method, url }, response) => {
      if (method === 'HEAD') return response.writeHead(404).end();
      if (method === 'POST') return response.writeHead(202, { location: '/up/a%2Fb?_state=A+b%2F/c==&x' }).end();
      return response.writeHead(url.pathname === '/up/a%2Fb' && url.search === `?_state=A+b%2F/c==&x&digest=${smaller.digest}` ? 201 : 404).end();
    }, async (_, { store }) => store.push(smaller, () => lent(some)));
  });

  it('cancels the session when its source fails, and says why it did', async () => {
    await withRegistry({}, async (registry, { store }) => {
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield some.subarray(0, 6 * MIB);
        throw new LazypullError('IO', 'the disk is gone');
      };
      await rejectsWith(store.push(smaller, broken), 'IO', /the disk is gone/);
      assert.equal(registry.requests('POST').length, 1);
      assert.deepEqual(registry.requests('DELETE').map(({ status }) => status), [204]);
    });
  });

  it('does not store what is not what its smaller says', async () => {
    await withRegistry({}, async (registry, { store }) => {
      await rejectsWith(store.push(smaller, () => lent(some.subarray(1))), 'SIZE_MISMATCH');
      await rejectsWith(store.push(smaller, () => lent(Buffer.concat([some, some]))), 'SIZE_MISMATCH');
      await rejectsWith(store.push(smaller, () => lent(noise(some.length, 3))), 'DIGEST_MISMATCH');
      assert.equal(await store.has(smaller), false);
      assert.equal(registry.requests('POST').length, 3);
    });
  });

  it('passes on what a registry refuses', async () => {
    const refusals = [[400, 'DIGEST_INVALID', 'DIGEST_MISMATCH'], [413, 'SIZE', 'LIMIT'], [403, 'DENIED', 'UNAUTHORIZED']] as const;
    for (const [status, reason, code] of refusals) {
      await withRegistry({}, async (registry, { store }) => {
        registry.inject({ fault: { kind: 'status', status, code: reason }, method: 'PUT' });
        await rejectsWith(store.push(smaller, () => lent(some)), code, new RegExp(`PUT answered ${status}: ${reason}`));
        assert.equal(registry.requests('PUT').length, 1);
      });
    }
    await withRegistry({}, async (registry, { store }) => {
      registry.inject({ fault: { kind: 'status', status: 404, code: 'NAME_UNKNOWN' }, method: 'POST' });
      await rejectsWith(store.push(smaller, () => lent(some)), 'NOT_FOUND', /repository to be created first/);
    });
  });

  it('leaves no session behind when it is aborted', async () => {
    await withRegistry({}, async (registry, { store }) => {
      const controller = new AbortController();
      const slow = async function* (): AsyncGenerator<Uint8Array> {
        yield some.subarray(0, 3 * MIB);
        controller.abort();
        yield some.subarray(3 * MIB);
      };
      await rejectsWith(store.push(smaller, slow, controller.signal), 'CANCELLED');
      assert.deepEqual(registry.requests('DELETE').map(({ status }) => status), [204]);
      assert.equal(await store.has(smaller), false);
    });
  });

  it('cancels a session that was being opened when the abort came', async () => {
    const controller = new AbortController();
    await withServer(async ({ method }, response) => {
      if (method === 'HEAD') return response.writeHead(404).end();
      if (method !== 'POST') return response.writeHead(204).end();
      controller.abort();
      await new Promise((resolve) => setTimeout(resolve, 30));
      return response.writeHead(202, { location: '/up/1' }).end();
    }, async (server, { store }) => {
      await rejectsWith(store.push(smaller, () => lent(some), controller.signal), 'CANCELLED');
      assert.deepEqual(server.seen.map(({ method, url }) => `${method} ${url.pathname}`).slice(1), ['POST /v2/app/blobs/uploads/', 'DELETE /up/1']);
    });
  });

  it('refuses a session that leads nowhere, or from https to http', async () => {
    await withServer(({ method }, response) => response.writeHead(method === 'HEAD' ? 404 : 202).end(), async (_, { store }) => {
      await rejectsWith(store.push(smaller, () => lent(some)), 'NETWORK', /without saying where/);
    });
  });

  it('shows the token to the registry only, wherever the session is', async () => {
    const storage = await scripted((_, response) => response.writeHead(201).end());
    await withServer(({ method, headers }, response) => {
      if (headers.authorization === undefined) return response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      if (method === 'HEAD') return response.writeHead(404).end();
      return response.writeHead(202, { location: `${storage.url}/up/1` }).end();
    }, async (server) => {
      const { store } = client(server.host, 'app', { creds: { username: 'me', password: 'hunter2' } });
      await store.push(smaller, () => lent(some));
      assert.equal(storage.seen[0]?.headers.authorization, undefined);
      assert.ok(storage.seen[0]?.body.equals(some));
      await store.close();
    });
    await storage.close();
  });
});

describe('ingesting a blob', () => {
  it('sends pieces and closes with the digest', async () => {
    const pieces = Math.ceil(bytes.length / PIECE);
    await withRegistry({ uploadLocation: 'stateful' }, async (registry, one) => {
      assert.deepEqual(await ingest(one), descriptor);
      assert.deepEqual(steps(registry), ['POST 202', ...Array<string>(pieces).fill('PATCH 202'), 'PUT 201']);
      assert.deepEqual(registry.requests('PATCH').map(({ headers }) => headers['content-range']), [
        ...Array.from({ length: pieces - 1 }, (_, i) => `${i * PIECE}-${(i + 1) * PIECE - 1}`), `${(pieces - 1) * PIECE}-${bytes.length - 1}`,
      ]);
      assert.ok(await stored(one));
    });
  });

  it('opens no session for what fits into one piece and is there', async () => {
    await withRegistry({}, async (registry, one) => {
      const exact = bytes.subarray(0, PIECE);
      await ingest(one, exact);
      assert.deepEqual(steps(registry), ['HEAD 404', 'POST 202', 'PUT 201']);
      registry.log.length = 0;
      assert.deepEqual(await ingest(one, exact), blobOf(exact));
      assert.deepEqual(steps(registry), ['HEAD 200']);
      assert.equal((await ingest(one, new Uint8Array(0))).size, 0);
    });
  });

  it('asks where the registry is after a failure, and goes on from there', async () => {
    const cut = { kind: 'reset-upload', after: 3 * MIB } as const;
    const cases = [[cut, 0], [cut, 1], [{ kind: 'status', status: 503 }, 2], [{ kind: 'reset' }, 1]] as const;
    for (const [fault, skip] of cases) {
      await withRegistry({ uploadLocation: 'stateful' }, async (registry, one) => {
        registry.inject({ fault, method: 'PATCH', skip, times: 2 });
        await ingest(one);
        assert.ok(registry.requests('GET', /uploads/).length >= 1);
        assert.ok(await stored(one), `${fault.kind} at piece ${skip}`);
      });
    }
  });

  it('sends what the registry says it has not got', async () => {
    // A registry that takes half of what it is sent, and says so.
    const content: Buffer[] = [];
    let size = 0;
    await withServer(({ method, headers, body, url }, response) => {
      if (method === 'POST') return response.writeHead(202, { location: '/up?s=0', range: '0-0' }).end();
      if (method === 'PUT') return response.writeHead(201).end();
      if (method !== 'PATCH') return response.writeHead(404).end();
      if (headers['content-range'] !== `${size}-${size + body.length - 1}` || url.search !== `?s=${size}`) return response.writeHead(416).end();
      const part = body.subarray(0, Math.ceil(body.length / 2));
      content.push(part);
      size += part.length;
      return response.writeHead(202, { location: `/up?s=${size}`, range: `0-${size - 1}` }).end();
    }, async (_, one) => {
      await ingest(one);
      assert.ok(Buffer.concat(content).equals(bytes));
    });
  });

  it('gets back into step after a 416', async () => {
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'status', status: 416, code: 'RANGE_INVALID' }, method: 'PATCH', skip: 1, times: 1 });
      await ingest(one);
      assert.ok(await stored(one));
      assert.equal(registry.requests('GET', /uploads/).length, 1);
    });
  });

  it('starts over when the session is lost with its first piece, and gives up after that', async () => {
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset' }, method: 'PATCH', times: 1 });
      registry.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }, method: 'GET', path: /uploads/, times: 1 });
      await ingest(one);
      assert.ok(await stored(one));
      assert.equal(registry.requests('POST').length, 2);
    });
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'reset' }, method: 'PATCH', skip: 1, times: 1 });
      registry.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }, method: 'GET', path: /uploads/ });
      await rejectsWith(ingest(one), 'NETWORK', /lost by the registry after 5242880 bytes/);
    });
  });

  it('notices a registry that is out of step', async () => {
    for (const [range, why] of [['0-99999999', /has 100000000 bytes, between 0 and 5242880 were sent/], ['0-5242878', /confirmed|out of step/]] as const) {
      await withServer(({ method }, response) => {
        if (method === 'POST') return response.writeHead(202, { location: '/up' }).end();
        return response.writeHead(method === 'PATCH' ? 202 : 204, { location: '/up', range }).end();
      }, async (_, one) => rejectsWith(ingest(one), 'NETWORK', why));
    }
  });

  it('sends pieces as large as the registry wants', async () => {
    await withRegistry({ minChunk: 10 * MIB }, async (registry, one) => {
      await ingest(one);
      assert.deepEqual(registry.requests('PATCH').map(({ received }) => received), [10 * MIB, 10 * MIB, bytes.length - 20 * MIB]);
      assert.ok(await stored(one));
    });
    await withRegistry({ minChunk: 500 * MIB }, async (registry, one) => {
      await rejectsWith(ingest(one), 'LIMIT', /wants pieces of 524288000 bytes/);
      assert.equal(registry.requests('DELETE').length, 1);
    });
  });

  it('is content when the blob is there after a closing PUT that failed', async () => {
    await withRegistry({}, async (registry, one) => {
      const other = client(registry.host, 'app').store;
      registry.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }, method: 'PUT', skip: 1 });
      await other.push(descriptor, () => streamOf(bytes));
      await ingest(one);
      assert.deepEqual(steps(registry).slice(-3), ['PUT 404', 'HEAD 200', 'DELETE 204']);
      await other.close();
    });
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'status', status: 404, code: 'BLOB_UPLOAD_UNKNOWN' }, method: 'PUT' });
      await rejectsWith(ingest(one), 'NOT_FOUND', /BLOB_UPLOAD_UNKNOWN/);
    });
  });

  it('repeats a closing PUT that fails in passing', async () => {
    await withRegistry({}, async (registry, one) => {
      registry.inject({ fault: { kind: 'status', status: 500 }, method: 'PUT', times: 2 });
      await ingest(one);
      assert.ok(await stored(one));
      assert.equal(registry.requests('PUT').length, 3);
    });
  });

  it('leaves no session behind when it is aborted or its producer fails', async () => {
    for (const how of ['abort', 'throw'] as const) {
      await withRegistry({}, async (registry, { store }) => {
        // The PATCH that is under way would take for ever.
        registry.inject({ fault: { kind: 'delay', ms: 1000 }, method: 'PATCH' });
        const controller = new AbortController();
        const running = store.ingest('application/x', async (sink) => {
          await sink(bytes.subarray(0, 12 * MIB));
          if (how === 'throw') throw new LazypullError('CORRUPT', 'bad entry');
          controller.abort();
          await sink(bytes.subarray(12 * MIB));
        }, controller.signal);
        await rejectsWith(running, how === 'throw' ? 'CORRUPT' : 'CANCELLED');
        assert.deepEqual(registry.requests('DELETE').map(({ status }) => status), [204]);
      });
    }
  });

  it('keeps two pieces in memory and no more', async () => {
    let most = 0;
    let confirmed = 0;
    let produced = 0;
    await withServer(async ({ method, body }, response) => {
      if (method === 'POST') return response.writeHead(202, { location: '/up' }).end();
      if (method === 'PUT') return response.writeHead(201).end();
      await new Promise((resolve) => setTimeout(resolve, 20));
      confirmed += body.length;
      return response.writeHead(202, { location: '/up', range: `0-${confirmed - 1}` }).end();
    }, async (_, { store }) => {
      await store.ingest('application/x', async (sink) => {
        for (let i = 0; i < 64; i++) {
          await sink(bytes.subarray(0, MIB));
          produced += MIB;
          most = Math.max(most, produced - confirmed);
        }
      });
      assert.ok(most <= 2 * PIECE + MIB, `${most} bytes were waiting`);
    });
  });

  it('reports the failure of a piece to its producer', async () => {
    await withRegistry({}, async (registry, { store }) => {
      registry.inject({ fault: { kind: 'status', status: 403, code: 'DENIED' }, method: 'PATCH' });
      let taken = 0;
      await rejectsWith(store.ingest('application/x', async (sink) => {
        for (; taken < 1000; taken++) await sink(bytes.subarray(0, MIB));
      }), 'UNAUTHORIZED', /DENIED/);
      assert.ok(taken < 40, String(taken));
    });
  });
});
