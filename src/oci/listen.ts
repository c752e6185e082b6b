import type { Server } from 'node:http';
import { LazypullError, printable } from '../core/errors.ts';

/** Where a server listens. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[v6]:port` or a port alone, which is one of 127.0.0.1; port 0 is any free one. USAGE otherwise. */
export function parseListen(text: string): ListenAddress {
  const [, v6, name = '', port = ''] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === '' || Number(port) > 65_535) throw new LazypullError('USAGE', `not an address to listen on: ${printable(text)}; write host:port, for instance 127.0.0.1:5000`);
  return { host: v6 ?? (name || '127.0.0.1'), port: Number(port) };
}

export function formatListen({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Resolves when the server listens; rejects with Node's error when the address cannot be had. */
export function listen(server: Server, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
