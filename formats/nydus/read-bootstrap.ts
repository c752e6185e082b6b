import { verified } from '../../src/core/digest.ts';
import { corrupt, LazypullError, wrapError } from '../../src/core/errors.ts';
import type { StoredLayer } from '../../src/core/format.ts';
import { streamSource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import { decompress } from '../../src/codec/compression.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { BOOTSTRAP_PATH, META_FOLDER, META_SUFFIX } from './layout.ts';

/** Bytes of a bootstrap: about 110 for each file, and 8 for each chunk. */
const BOOTSTRAP_LIMIT = 512 << 20;
/** Bytes of all context tables in the layer. */
const METAS_LIMIT = 1 << 30;
/** The layer is read whole, mostly with one request. */
const PIECE = 16 << 20;
/** Where the oldest tools put it. */
const OLD_PATH = 'image.boot';

export interface BootstrapFiles {
  readonly bootstrap: Uint8Array;
  /** Assembled context tables by the hex digest in their names. */
  readonly metas: ReadonlyMap<string, Uint8Array>;
}

/** What is in a bootstrap layer (§16); its digest is checked, so that everything that follows from the bootstrap is vouched for. */
export async function readBootstrapLayer({ descriptor, source }: StoredLayer, signal?: AbortSignal): Promise<BootstrapFiles> {
  const what = `bootstrap layer ${descriptor.digest}`;
  const packed = verified(streamSource(source, PIECE, signal), descriptor, what);
  const maxSize = BOOTSTRAP_LIMIT + METAS_LIMIT;
  const tar = new TarReader(decompress(packed, { maxSize, what, ...(signal && { signal }) }), { what });
  const metas = new Map<string, Uint8Array>();
  let left = METAS_LIMIT;
  let bootstrap: Uint8Array | undefined;
  try {
    for (let entry = await tar.next(); entry; entry = await tar.next()) {
      const path = cleanPath(entry.path);
      if (entry.type !== 'file') continue;
      if (path === BOOTSTRAP_PATH || path === OLD_PATH) {
        if (entry.size > BOOTSTRAP_LIMIT) throw new LazypullError('LIMIT', `${what}: ${path} has ${entry.size} bytes, more than the ${BOOTSTRAP_LIMIT} allowed`);
        bootstrap = await collect(tar.body(), BOOTSTRAP_LIMIT, what);
      } else if (path.startsWith(META_FOLDER) && path.endsWith(META_SUFFIX)) {
        if (entry.size > left) throw new LazypullError('LIMIT', `${what}: context tables of more than ${METAS_LIMIT} bytes`);
        left -= entry.size;
        metas.set(path.slice(META_FOLDER.length, -META_SUFFIX.length), await collect(tar.body(), entry.size, what));
      }
    }
    // To the end: digest and checksum are there.
    for await (const _ of tar.trailer());
  } catch (error) {
    throw wrapError(error, 'CORRUPT', `${what} cannot be read`);
  } finally {
    await tar.close();
  }
  if (!bootstrap) throw corrupt(`${what} has no ${BOOTSTRAP_PATH}`);
  return { bootstrap, metas };
}
