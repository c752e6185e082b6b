import { throwIfAborted } from '../core/errors.ts';
import type { LayerInput } from '../core/format.ts';
import { Spool } from '../core/spool.ts';
import type { ByteStream } from '../core/types.ts';
import type { TarEntry } from './entry.ts';
import { checkPath, cleanPath } from './path.ts';
import { TarReader } from './read.ts';

/** An entry with its payload, which is read when it is asked for. */
export interface AsideEntry {
  readonly entry: TarEntry;
  readonly body: () => ByteStream;
}

/** Entries of a layer that are put aside, payloads on disk, for writers that want them before the rest. `close` in any case. */
export class PutAside {
  readonly #spool = new Spool();
  readonly #entries = new Map<number, AsideEntry>();

  /** The archive's n-th entry, if it is here. */
  get(ordinal: number): AsideEntry | undefined {
    return this.#entries.get(ordinal);
  }

  /** Reads the layer once, to its end, and puts aside the entries that `wanted` says yes to. */
  async collect(input: LayerInput, wanted: (path: string, entry: TarEntry, ordinal: number) => boolean, signal?: AbortSignal): Promise<void> {
    const tar = new TarReader(input.tar(), { what: `layer ${input.descriptor.digest}` });
    try {
      let ordinal = 0;
      for (let entry = await tar.next(); entry; entry = await tar.next(), ordinal++) {
        throwIfAborted(signal);
        checkPath(entry);
        if (!wanted(cleanPath(entry.path), entry, ordinal)) continue;
        const offset = this.#spool.size;
        const { size } = entry;
        this.#entries.set(ordinal, { entry, body: () => this.#spool.read(offset, size) });
        for await (const bytes of tar.body()) await this.#spool.append(bytes);
      }
      for await (const _ of tar.trailer());
    } finally {
      await tar.close();
    }
  }

  async close(): Promise<void> {
    await this.#spool.close();
  }
}
