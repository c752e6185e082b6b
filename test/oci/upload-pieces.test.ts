import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { client, scripted } from './scripted.ts';
import { noise, rejectsWith } from './store-contract.ts';

const MIB = 1024 * 1024;

describe('an upload in pieces', () => {
  // Docker's registry 2.8 refuses to cancel by a location that knows less than what a broken PATCH has brought.
  it('lets the piece that is under way arrive after an abort, and cancels at the location that it gave', async () => {
    const controller = new AbortController();
    const server = await scripted(async ({ method }, response) => {
      if (method === 'POST') return response.writeHead(202, { location: '/up/1' }).end();
      if (method !== 'PATCH') return response.writeHead(204).end();
      controller.abort();
      await new Promise((resolve) => setTimeout(resolve, 30));
      return response.writeHead(202, { location: '/up/2', range: `0-${5 * MIB - 1}` }).end();
    });
    const { store } = client(server.host, 'app');
    try {
      await rejectsWith(store.ingest('application/x', async (sink) => {
        for (let i = 0; i < 100; i++) await sink(noise(MIB));
      }, controller.signal), 'CANCELLED');
      const sent = server.seen.map(({ method, url }) => `${method} ${url.pathname}`).filter((line) => !line.endsWith(' /v2/'));
      assert.deepEqual(sent, ['POST /v2/app/blobs/uploads/', 'PATCH /up/1', 'DELETE /up/2']);
    } finally {
      await store.close();
      await server.close();
    }
  });
});
