import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { ImageSource } from '../../../src/mount/host/image-source.ts';
import type { ServeOptions } from '../../../src/mount/host/messages.ts';
import { FORMATS, openCache } from '../data/images.ts';

test('who no longer wants a mount does not wait for a registry that says nothing', { timeout: 20_000 }, async (t) => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.once('data', () => server.emit('asked'));
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = new AbortController();
  const { cache } = await openCache(t);
  const serve = { image: `docker://127.0.0.1:${(server.address() as AddressInfo).port}/a/b:1`, registry: { plainHttp: true } } as unknown as ServeOptions;
  const source = new ImageSource(serve, cache, { loadFormats: async () => FORMATS as never, env: { HOME: '/nowhere' }, onWarning: () => undefined, onProgress: () => undefined, signal: stop.signal });
  const asked = once(server, 'asked');
  const opening = source.open();
  opening.catch(() => undefined);
  await asked;
  stop.abort();
  await assert.rejects(opening, { code: 'CANCELLED' });
  await source.close();
});
