import { verified } from '../../src/core/digest.ts';
import { throwIfAborted } from '../../src/core/errors.ts';
import type { StoredLayer } from '../../src/core/format.ts';
import { checkRange, streamSource } from '../../src/core/source.ts';
import { Spool } from '../../src/core/spool.ts';
import { collect } from '../../src/core/stream.ts';
import type { ByteSource, ByteStream, Chunk, Extent, OpenLayer } from '../../src/core/types.ts';
import { decompress } from '../../src/codec/compression.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { TarReader } from '../../src/tar/read.ts';
import { addEntry } from './tree-entry.ts';

/** Most bytes of plain tar, holes counted: 64 GiB. Nobody leaves layers like that without a zTOC. */
const MAX_TAR = 64 * 1024 ** 3;
/** Bytes of a file per chunk. */
const CHUNK = 4 << 20;
/** Bytes per request. */
const PIECE = 8 << 20;

/**
 * Opens a layer that the image's index leaves out: it is pulled once, as a snapshotter would, and its files are put aside,
 * in memory while they are few and else in a temporary file. Size and digest are checked before anything is handed out.
 */
export async function openEager(layer: StoredLayer, facts: OpenLayer['facts'], signal?: AbortSignal): Promise<OpenLayer> {
  const { digest, size } = layer.descriptor;
  const what = `layer ${digest}`;
  const contents = new Contents();
  const tree = new TreeBuilder();
  const chunks: Chunk[] = [];
  try {
    const packed = verified(streamSource(layer.source, PIECE, signal), { digest, size }, what);
    const tar = new TarReader(decompress(packed, { maxSize: MAX_TAR, what, ...(signal && { signal }) }), { what, maxSize: MAX_TAR });
    try {
      for (let entry = await tar.next(); entry; entry = await tar.next()) {
        throwIfAborted(signal);
        const { mode, uid, gid, mtime, xattrs, userName, groupName } = entry;
        const extents = entry.type === 'file' ? await keep(entry, tar.rawBody(), contents, chunks) : [];
        addEntry(tree, entry, { mode, uid, gid, mtime, xattrs, userName, groupName }, { size: entry.size, extents });
      }
      // To the end: what is behind the archive counts for the digest.
      for await (const _ of tar.trailer()) throwIfAborted(signal);
    } finally {
      await tar.close();
    }
  } catch (error) {
    await contents.close();
    throw error;
  }
  return {
    format: 'soci',
    index: { root: tree.finish(), chunks },
    sources: [contents],
    // A hole has no bytes to be kept.
    inflate: async (chunk, bytes) => (chunk.length < chunk.size ? new Uint8Array(chunk.size) : bytes),
    indexBytes: 0,
    ...(facts && { facts }),
  };
}

/** Puts a file's stored bytes aside and says where they are; holes of sparse files are chunks without bytes. */
async function keep(entry: TarEntry, body: ByteStream, contents: Contents, chunks: Chunk[]): Promise<Extent[]> {
  const extents: Extent[] = [];
  let offset = contents.size;
  let fileOffset = 0;
  const add = (bytes: number, stored: boolean): void => {
    for (let left = bytes; left > 0; ) {
      const size = Math.min(left, CHUNK);
      const chunk: Chunk = { blob: 0, offset, length: stored ? size : 0, size };
      chunks.push(chunk);
      extents.push({ fileOffset, length: size, chunk, chunkOffset: 0 });
      fileOffset += size;
      offset += chunk.length;
      left -= size;
    }
  };
  for (const run of entry.sparse ?? [{ offset: 0, length: entry.size }]) {
    add(run.offset - fileOffset, false);
    add(run.length, true);
  }
  add(entry.size - fileOffset, false);
  for await (const bytes of body) await contents.append(bytes);
  return extents;
}

/** Removes the temporary files of layers that nobody can read any more: an open layer has no end of its own. */
const forgotten = new FinalizationRegistry<Spool>((spool) => void spool.close().catch(() => undefined));

/** The files of one layer behind each other. */
class Contents implements ByteSource {
  readonly #spool = new Spool();

  constructor() {
    forgotten.register(this, this.#spool, this);
  }

  get size(): number {
    return this.#spool.size;
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.#spool.append(bytes);
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal);
    checkRange(this, offset, length);
    return collect(this.#spool.read(offset, length), length);
  }

  async close(): Promise<void> {
    forgotten.unregister(this);
    await this.#spool.close();
  }
}

