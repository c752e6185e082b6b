import { tap } from '../core/stream.ts';
import type { ByteStream, Descriptor, ImageStore } from '../core/types.ts';

/** How a blob came to be in the target. */
export type TransferAction = 'exists' | 'mounted' | 'copied';

/**
 * Brings one blob or manifest into a store, in the cheapest way that works: it is there, it can be mounted, it flows.
 * `moved` hears of the bytes that flow; the number is negative when they have to flow again.
 */
export async function transferBlob(
  source: ImageStore,
  target: ImageStore,
  descriptor: Descriptor,
  { signal, moved }: { readonly signal?: AbortSignal | undefined; readonly moved?: ((bytes: number) => void) | undefined } = {},
): Promise<TransferAction> {
  if (source === target || (await target.has(descriptor, signal))) return 'exists';
  if (await target.mount?.(descriptor, source, signal)) return 'mounted';
  let flowed = 0;
  const open = (): ByteStream => {
    // Called again for a retry: what flowed before did not count.
    if (flowed > 0) moved?.(-flowed);
    flowed = 0;
    return tap(source.fetch(descriptor, signal), ({ length }) => {
      flowed += length;
      moved?.(length);
    });
  };
  await target.push(descriptor, open, signal);
  return 'copied';
}
