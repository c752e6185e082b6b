import type { Descriptor, ImageStore } from '../core/types.ts';

/** How a blob came to be in the target. */
export type TransferAction = 'exists' | 'mounted' | 'copied';

/** Brings one blob or manifest into a store, in the cheapest way that works: it is there, it can be mounted, it flows. */
export async function transferBlob(source: ImageStore, target: ImageStore, descriptor: Descriptor, signal?: AbortSignal): Promise<TransferAction> {
  if (source === target || (await target.has(descriptor, signal))) return 'exists';
  if (await target.mount?.(descriptor, source, signal)) return 'mounted';
  await target.push(descriptor, () => source.fetch(descriptor, signal), signal);
  return 'copied';
}
