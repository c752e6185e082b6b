import { Digester } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import type { Descriptor, ImageStore, Produce } from '../core/types.ts';

/** A store that takes everything, keeps nothing, and says what it would have stored: the target of a dry run. */
export function discardStore(location: string): ImageStore {
  const absent = (): LazypullError => new LazypullError('NOT_FOUND', `${location} keeps nothing in a dry run`);
  return {
    location,
    resolve: () => Promise.reject(absent()),
    tag: async () => undefined,
    has: async () => false,
    open: () => {
      throw absent();
    },
    fetch: () => {
      throw absent();
    },
    push: async () => undefined,
    async ingest(mediaType: string, produce: Produce): Promise<Descriptor> {
      const digester = new Digester();
      await produce(
        async (bytes) => digester.update(bytes),
        () => digester.soFar(),
      );
      const size = digester.size;
      return { mediaType, digest: digester.finish(), size };
    },
    close: async () => undefined,
  };
}
