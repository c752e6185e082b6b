import { roundUp } from '../../src/core/bytes.ts';
import { Digester, type Digest } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { Sink } from '../../src/core/types.ts';
import { crc32Combine } from '../../src/codec/crc32.ts';
import { gzipHeader, gzipTrailer } from '../../src/codec/gzip.ts';
import { runDeflatePiece } from '../../src/codec/gzip-members.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf } from '../../src/tar/write.ts';
import { ALIGNMENT, BOOTSTRAP_PATH, META_FOLDER, META_SUFFIX } from './layout.ts';

/** A file of the bootstrap layer. */
interface PackedFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  write(sink: Sink): Promise<void>;
}

/** A blob's context table, uncompressed, and its header. */
export interface MetaFile {
  /** Blob id. */
  readonly id: string;
  readonly table: Uint8Array;
  readonly header: Uint8Array;
}

export interface PackedLayer {
  /** Of the plain tar. */
  readonly diffId: Digest;
  /** Bytes of the plain tar. */
  readonly tarSize: number;
}

const LEVEL = 6;
/** Plain bytes that are compressed at a time; no match reaches across. */
const PIECE = 1 << 20;
const EPOCH = { seconds: 0, nanoseconds: 0 };
/** The final deflate block, empty. */
const LAST_BLOCK = Uint8Array.of(3, 0);

/**
 * Writes the bootstrap layer (§16): a tar+gzip with the bootstrap and the context tables of the blobs, so that mounting
 * takes no request for each blob. Nothing in it depends on when or where.
 */
export async function packBootstrap(bootstrap: Omit<PackedFile, 'path'>, metas: readonly MetaFile[], sink: Sink): Promise<PackedLayer> {
  const files: PackedFile[] = [{ ...bootstrap, path: BOOTSTRAP_PATH }, ...metas.map(fileOf).sort((a, b) => (a.path < b.path ? -1 : 1))];
  const gzip = new GzipSink(sink);
  await gzip.begin();
  await gzip.write(header({ path: META_FOLDER, type: 'directory', mode: 0o755 }));
  for (const { path, size, write } of files) {
    await gzip.write(header({ path, type: 'file', mode: 0o444, size }));
    let written = 0;
    await write(async (bytes) => {
      written += bytes.length;
      await gzip.write(bytes);
    });
    if (written !== size) throw new LazypullError('INTERNAL', `${path} has ${written} bytes, not ${size}`);
    await gzip.write(new Uint8Array(paddingOf(size)));
  }
  await gzip.write(END_OF_ARCHIVE);
  return gzip.finish();
}

/** The table padded to whole blocks, and its header behind it: what nydusd keeps as `<id>.blob.meta` (§7). */
function fileOf({ id, table, header: tableHeader }: MetaFile): PackedFile {
  const padded = roundUp(table.length, ALIGNMENT);
  return {
    path: `${META_FOLDER}${id}${META_SUFFIX}`,
    size: padded + tableHeader.length,
    write: async (sink) => {
      await sink(table);
      if (padded > table.length) await sink(new Uint8Array(padded - table.length));
      await sink(tableHeader);
    },
  };
}

function header(entry: { readonly path: string; readonly type: 'file' | 'directory'; readonly mode: number; readonly size?: number }): Uint8Array {
  return encodeTarHeader({ ...entry, uid: 0, gid: 0, mtime: EPOCH });
}

/** One gzip member, compressed piece by piece. */
class GzipSink {
  readonly #sink: Sink;
  readonly #tar = new Digester();
  readonly #piece = new Uint8Array(PIECE);
  #used = 0;
  #crc = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  async begin(): Promise<void> {
    await this.#sink(gzipHeader(LEVEL));
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#tar.update(bytes);
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + PIECE - this.#used);
      this.#piece.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === PIECE) await this.#flush();
    }
  }

  async finish(): Promise<PackedLayer> {
    await this.#flush();
    await this.#sink(LAST_BLOCK);
    const tarSize = this.#tar.size;
    await this.#sink(gzipTrailer(this.#crc, tarSize));
    return { diffId: this.#tar.finish(), tarSize };
  }

  async #flush(): Promise<void> {
    if (this.#used === 0) return;
    const { bytes, size, crc } = runDeflatePiece({ bytes: this.#piece.subarray(0, this.#used), level: LEVEL });
    this.#crc = crc32Combine(this.#crc, crc, size);
    this.#used = 0;
    await this.#sink(bytes);
  }
}
