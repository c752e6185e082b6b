import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { wrapError } from '../core/errors.ts';
import { formatListen, listen, parseListen } from './listen.ts';
import { createRegistryHandler, type RegistryHandlerOptions } from './server/handler.ts';

export { createRegistryHandler, type RegistryHandler, type RegistryHandlerOptions, type RequestRecord } from './server/handler.ts';

/** Connections on which nothing moves for so long are cut, ms. */
const IDLE = 300_000;
/** How long `close` waits for answers under way, ms. */
const GRACE = 5000;

export interface ServeOptions extends RegistryHandlerOptions {
  /** `host:port`, `[v6]:port`, `:port` or `port`; without host 127.0.0.1, port 0 is any free one. Default `127.0.0.1:0`. */
  readonly listen?: string;
}

/** Totals of all requests that are over; bytes are those of bodies. */
export interface RequestCounters {
  requests: number;
  received: number;
  sent: number;
}

export interface ServedLayout {
  /** `http://127.0.0.1:5000`. */
  readonly url: string;
  /** `127.0.0.1:5000`, as it stands in references. */
  readonly host: string;
  readonly port: number;
  readonly counters: Readonly<RequestCounters>;
  /** Takes no more requests, gives those under way five seconds, and drops open uploads. */
  close(): Promise<void>;
}

/**
 * Serves a layout folder as an OCI registry (distribution-spec 1.1): pull, ranges, push in all forms, mounts, tags, delete,
 * referrers. An image named `1.0` in the layout `./app` is `app:1.0` here, one named `team/app:1.0` is just that, and
 * pushes write the same names (see `Repositories`). There is no access control: it listens on 127.0.0.1 unless told
 * otherwise. USAGE for a bad `listen`, IO when the address cannot be had, and what `openLayout` says.
 */
export async function serveLayout(folder: string, options: ServeOptions = {}): Promise<ServedLayout> {
  const address = parseListen(options.listen ?? '127.0.0.1:0');
  const counters: RequestCounters = { requests: 0, received: 0, sent: 0 };
  const handler = await createRegistryHandler(folder, {
    ...options,
    onRequest(record) {
      counters.requests += 1;
      counters.received += record.received;
      counters.sent += record.sent;
      options.onRequest?.(record);
    },
  });
  const server = createServer((request, response) => void handler.handle(request, response));
  // Uploads take as long as they take; silence is what ends a connection.
  server.requestTimeout = 0;
  server.timeout = IDLE;
  server.keepAliveTimeout = 65_000;
  try {
    await listen(server, address);
  } catch (error) {
    await handler.close();
    throw wrapError(error, 'IO', `cannot listen on ${formatListen(address)}`);
  }
  const { port } = server.address() as AddressInfo;
  const host = formatListen({ ...address, port });
  let closed: Promise<void> | undefined;
  return {
    url: `http://${host}`,
    host,
    port,
    counters,
    close: () => (closed ??= stop(server).then(() => handler.close())),
  };
}

/** Idle connections end at once; those that answer may finish, within limits. */
async function stop(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  server.closeIdleConnections();
  // A connection that is kept alive after its answer becomes idle only then.
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  const force = setTimeout(() => server.closeAllConnections(), GRACE);
  await closed;
  clearInterval(idle);
  clearTimeout(force);
}
