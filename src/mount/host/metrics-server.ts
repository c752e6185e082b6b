import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { wrapError } from '../../core/errors.ts';
import { formatListen, listen, parseListen } from '../../oci/listen.ts';

export interface MetricsServer {
  readonly url: string;
  /** `host:port` with the port that it got. */
  readonly address: string;
  close(): Promise<void>;
}

/** Serves `/metrics` to whoever can reach the address. USAGE for a bad address, IO when it cannot be had. */
export async function serveMetrics(address: string, text: () => string): Promise<MetricsServer> {
  const wanted = parseListen(address);
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (path !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(path === '/metrics' ? 405 : 404, { 'content-type': 'text/plain' }).end();
      return;
    }
    const body = Buffer.from(text());
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', 'content-length': body.length, 'cache-control': 'no-store' });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  try {
    await listen(server, wanted);
  } catch (error) {
    throw wrapError(error, 'IO', `cannot serve metrics on ${formatListen(wanted)}`);
  }
  const { port } = server.address() as AddressInfo;
  const got = formatListen({ ...wanted, port });
  return {
    url: `http://${got}/metrics`,
    address: got,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
