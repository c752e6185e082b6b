import { MountCache } from '../../../src/mount/data/cache.ts';
import type { CachedDevice } from '../../../src/mount/data/cached-device.ts';
import { PAGE_SIZE } from '../../../src/mount/data/pages.ts';

/** What a test asks another process to do with a cache. */
export type Order =
  | { readonly do: 'open'; readonly dir: string; readonly maxBytes?: number; readonly key: string; readonly size: number }
  | { readonly do: 'write'; readonly address: number; readonly length: number; readonly fill: number }
  | { readonly do: 'read'; readonly address: number; readonly length: number }
  | { readonly do: 'flush' | 'refresh' | 'close' };

/** First and last byte of what was read; null when it was not there. */
export type Answer = { readonly ok: unknown } | { readonly error: string };

let cache: MountCache | undefined;
let device: CachedDevice | undefined;

async function obey(order: Order): Promise<unknown> {
  switch (order.do) {
    case 'open':
      cache = await MountCache.open(order.dir, { ...(order.maxBytes !== undefined && { maxBytes: order.maxBytes }) });
      device = await cache.device(order.key, order.size);
      return device.localBytes;
    case 'write':
      return device?.write([{ address: order.address, bytes: new Uint8Array(order.length).fill(order.fill), cover: Math.ceil(order.length / PAGE_SIZE) * PAGE_SIZE }]);
    case 'read': {
      const bytes = await device?.read(order.address, order.length);
      return bytes ? [bytes[0], bytes.at(-1)] : null;
    }
    case 'flush':
      return cache?.flush();
    case 'refresh':
      if (device) await cache?.refresh(device);
      return device?.localBytes;
    default:
      return cache?.close();
  }
}

if (process.send) {
  process.on('message', (order: Order) => {
    void obey(order).then(
      (ok) => process.send?.({ ok: ok ?? null } satisfies Answer),
      (error: unknown) => process.send?.({ error: String(error) } satisfies Answer),
    );
  });
}
