import type { Variant } from './nydus-images.ts';

// Merging three layers as RAFS 5 is more than nydus-builder 0.2.0 can do: `Invalid argument`.

/** What Nydus' builder is asked for: the images in fixtures/foreign/nydus, and those made anew by the interop test. */
export interface ForeignVariant extends Variant {
  readonly tag: string;
  readonly about: string;
  /** Layers of the source, counted from the lowest; all of them if absent. */
  readonly layers?: number;
  /** Tag of the variant whose image is the chunk dictionary. */
  readonly dictionaryOf?: string;
}

const CHUNKS = ['--chunk-size', '0x10000'];

export const FOREIGN: readonly ForeignVariant[] = [
  { tag: 'zstd', about: "the converter's defaults: zstd, BLAKE3, chunks of 1 MiB; the blobs' tables with the bootstrap", tables: true },
  { tag: 'lz4', about: 'lz4, SHA-256, chunks of 64 KiB, prefetch of two paths', flags: ['--compressor', 'lz4_block', '--digester', 'sha256', ...CHUNKS], prefetch: '/etc\n/usr/share/book/pages.txt\n' },
  { tag: 'batch', about: 'small files in batches of up to 16 KiB, chunks of 64 KiB', flags: ['--batch-size', '0x4000', ...CHUNKS] },
  { tag: 'plain', about: 'bootstraps beside the blobs, no table of contents; nothing compressed; chunks of 64 KiB', kind: 'plain', flags: ['--compressor', 'none', ...CHUNKS] },
  { tag: 'dictionary', about: 'image `zstd` as chunk dictionary', dictionaryOf: 'zstd' },
  { tag: 'zran', about: 'the gzip layers stay as they are', kind: 'zran' },
  { tag: 'tarfs', about: 'plain tars as blobs, EROFS blocks of 512', kind: 'tarfs', layers: 1 },
  { tag: 'v5', about: 'RAFS 5, lz4, chunks of 64 KiB', kind: 'plain', version: 5, layers: 2, flags: ['--compressor', 'lz4_block', ...CHUNKS] },
];
