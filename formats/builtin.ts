import type { FormatEntry } from '../src/core/format-entry.ts';

const MAX_CHUNK = 64 * 1024 * 1024;

/**
 * The formats that come with lazypull, the default one first. This page is all that the command line reads to start;
 * a format's own code is loaded when an image needs it.
 */
export const builtinFormats: readonly FormatEntry[] = [
  {
    name: 'estargz',
    summary: 'seekable tar.gz with an index inside; runs everywhere, lazily with the stargz snapshotter',
    options: [
      { key: 'chunkSize', flag: 'chunk-size', kind: 'size', min: 1024, max: MAX_CHUNK, help: 'bytes of a file per chunk (default 4M)' },
      { key: 'minChunkSize', flag: 'min-chunk-size', kind: 'size', min: 0, max: MAX_CHUNK, help: 'let small files share a gzip member until it holds this much (default 0: never)' },
      { key: 'level', flag: 'level', kind: 'integer', min: 0, max: 9, help: 'compression level, 0 to 9 (default 6)' },
      { key: 'prefetch', flag: 'prefetch-list', kind: 'patterns', help: 'globs of files to put first and fetch at start, one per line' },
      { key: 'externalToc', flag: 'external-toc', kind: 'switch', help: 'keep the index in an image of its own, tagged TAG-esgztoc' },
      { key: 'keepDiffId', flag: 'keep-diff-id', kind: 'switch', help: 'keep every byte of the tar and so its diffID (implies --external-toc)' },
    ],
    companions: ['-esgztoc'],
    load: async () => (await import('./estargz/index.ts')).estargz,
  },
];
