import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RegistryOptions } from '../../src/oci/registry-options.ts';
import { openRegistry, type RegistryStore } from '../../src/oci/registry.ts';

/** One request as the server saw it, its body read. */
export interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Scripted {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly url: string;
  readonly seen: Seen[];
  readonly server: Server;
  close(): Promise<void>;
}

/** A server whose answers the test writes, for what no well-behaved registry does. */
export async function scripted(answer: (request: Seen, response: ServerResponse) => unknown): Promise<Scripted> {
  const seen: Seen[] = [];
  let url = '';
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('error', () => undefined);
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const one: Seen = { method: request.method ?? '', url: new URL(request.url ?? '/', url), headers: request.headers, body: Buffer.concat(parts) };
      seen.push(one);
      Promise.resolve(answer(one, response)).catch(() => response.destroy());
    });
  });
  // A test that fails before it closes its server must not hold up the others.
  server.unref();
  server.on('connection', (socket) => socket.unref());
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  url = `http://${host}`;
  return {
    host, url, seen, server,
    close: () => new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    }),
  };
}

/** An environment without anybody's credentials, certificates or proxies. */
export function emptyEnv(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const nowhere = join(tmpdir(), 'lazypull-no-such-home');
  return { HOME: nowhere, XDG_RUNTIME_DIR: nowhere, PATH: process.env['PATH'] ?? '', ...more };
}

export interface Client {
  readonly store: RegistryStore;
  /** Delays that were asked for, ms; nothing really waits. */
  readonly delays: number[];
  readonly warnings: string[];
}

/** A store for `host/path` that never waits between tries. */
export function client(host: string, path = 'team/app', options: RegistryOptions = {}): Client {
  const delays: number[] = [];
  const warnings: string[] = [];
  const store = openRegistry({ domain: host, path }, {
    plainHttp: true,
    env: emptyEnv(),
    onWarning: (text) => warnings.push(text),
    ...options,
    retry: {
      sleep: async (ms) => {
        delays.push(ms);
      },
      random: () => 0,
      ...options.retry,
    },
  });
  return { store, delays, warnings };
}
