import type { FormatEntry } from '../src/core/format-entry.ts';

const MAX_CHUNK = 64 * 1024 * 1024;
const MAX_NYDUS_CHUNK = 16 * 1024 * 1024;
const MAX_SPAN = 1024 * 1024 * 1024;
const MIN_MOUNT_SPAN = 32 * 1024;
const MAX_MOUNT_SPAN = 16 * 1024 * 1024;

/**
 * The formats that come with lazypull, the default one first. This page is all that the command line reads to start;
 * a format's own code is loaded when an image needs it.
 */
export const builtinFormats: readonly FormatEntry[] = [
  {
    name: 'estargz',
    summary: 'seekable tar.gz with an index inside; runs everywhere, lazily with the stargz snapshotter',
    options: [
      { key: 'chunkSize', flag: 'chunk-size', kind: 'size', min: 1024, max: MAX_CHUNK, help: 'bytes of a file per chunk (default 4M; nydus: 1M)' },
      { key: 'minChunkSize', flag: 'min-chunk-size', kind: 'size', min: 0, max: MAX_CHUNK, help: 'let small files share a gzip member until it holds this much (default 0: never)' },
      { key: 'level', flag: 'level', kind: 'integer', min: 0, max: 9, help: 'compression level, 0 to 9 (default 6)' },
      { key: 'prefetch', flag: 'prefetch-list', kind: 'patterns', help: 'globs of files to put first and fetch at start, one per line' },
      { key: 'externalToc', flag: 'external-toc', kind: 'switch', help: 'keep the index in an image of its own, tagged TAG-esgztoc' },
      { key: 'keepDiffId', flag: 'keep-diff-id', kind: 'switch', help: 'keep every byte of the tar and so its diffID (implies --external-toc)' },
    ],
    companions: ['-esgztoc'],
    rewrites: true,
    load: async () => (await import('./estargz/index.ts')).estargz,
  },
  {
    name: 'soci',
    summary: 'an index beside the image, whose layers stay as they are; lazily with the soci snapshotter',
    options: [
      { key: 'spanSize', flag: 'span-size', kind: 'size', min: 1, max: MAX_SPAN, help: 'bytes of plain tar that are fetched at a time, at least (default 4M; erofs: 32K)' },
      { key: 'minLayerSize', flag: 'min-layer-size', kind: 'size', min: 0, help: 'leave out stored layers smaller than this (default 10M; 0 leaves out none)' },
      { key: 'transcodeZstd', flag: 'transcode-zstd', kind: 'switch', repacks: true, help: 'repack zstd layers as gzip, which alone can be indexed' },
      { key: 'optimizeXattr', flag: 'optimize-xattr', kind: 'switch', help: 'tell the snapshotter which layers have no xattrs' },
      { key: 'upstreamCheckpoints', flag: 'upstream-checkpoints', kind: 'switch', help: 'cut spans exactly where the soci CLI does' },
      { key: 'prefetch', flag: 'prefetch-list', kind: 'patterns', help: 'globs of files to fetch at start, one per line' },
    ],
    binding: { artifactType: 'application/vnd.amazon.soci.index.v2+json', artifactKey: 'com.amazon.soci.index-digest', imageKey: 'com.amazon.soci.image-manifest-digest' },
    rewrites: false,
    load: async () => (await import('./soci/index.ts')).soci,
  },
  {
    name: 'nydus',
    summary: 'one EROFS file system in content-addressed chunks, shared by layers and images; lazily with the nydus snapshotter',
    options: [
      { key: 'chunkSize', flag: 'chunk-size', kind: 'size', min: 4096, max: MAX_NYDUS_CHUNK, help: 'bytes of a file per chunk (default 1M; a power of two)' },
      { key: 'compressor', flag: 'compressor', kind: 'choice', choices: ['zstd', 'lz4', 'none'], help: 'how chunks are compressed (default zstd)' },
      { key: 'level', flag: 'zstd-level', kind: 'integer', min: 1, max: 22, help: 'compression level of zstd, 1 to 22 (default 3)' },
      { key: 'digester', flag: 'digester', kind: 'choice', choices: ['blake3', 'sha256'], help: 'what chunks are known by (default blake3)' },
      { key: 'aligned', flag: 'aligned', kind: 'switch', help: 'begin chunks at multiples of 4 KiB in the blob as well' },
      { key: 'batchSize', flag: 'batch-size', kind: 'size', min: 0, max: MAX_NYDUS_CHUNK, help: 'compress small files together up to this much (default 0: never)' },
      { key: 'prefetch', flag: 'prefetch-list', kind: 'patterns', help: 'globs of files to put first and fetch at start, one per line' },
      { key: 'chunkDict', flag: 'chunk-dict', kind: 'image', help: 'another Nydus image, whose chunks need not be stored again' },
    ],
    rewrites: true,
    load: async () => (await import('./nydus/index.ts')).nydus,
  },
  {
    name: 'nydus-zran',
    summary: 'Nydus over the layers as they are: only where their chunks are is stored anew',
    options: [
      { key: 'chunkSize', flag: 'chunk-size', kind: 'size', min: 4096, max: MAX_NYDUS_CHUNK, help: 'bytes of a file per chunk (default 1M; a power of two)' },
      { key: 'digester', flag: 'digester', kind: 'choice', choices: ['blake3', 'sha256'], help: 'what chunks are known by (default blake3)' },
      { key: 'prefetch', flag: 'prefetch-list', kind: 'patterns', help: 'globs of files to fetch at start, one per line' },
    ],
    rewrites: true,
    reads: false,
    load: async () => (await import('./nydus/index.ts')).nydusZran,
  },
  {
    name: 'erofs',
    summary: 'a small index beside any image, which stays as it is: mounted by one small read, then lazily',
    options: [{ key: 'spanSize', flag: 'span-size', kind: 'size', min: MIN_MOUNT_SPAN, max: MAX_MOUNT_SPAN, help: 'bytes of plain tar that are fetched at a time, at least (default 32K)' }],
    rewrites: false,
    indexOnly: true,
    load: async () => (await import('./mount-index/index.ts')).mountIndex,
  },
  {
    name: 'oci',
    summary: 'ordinary tar.gz layers again, from whatever lazy format the image is in',
    options: [{ key: 'level', flag: 'level', kind: 'integer', min: 0, max: 9, help: 'compression level, 0 to 9 (default 6)' }],
    rewrites: true,
    reads: false,
    load: async () => (await import('./oci/index.ts')).oci,
  },
];
