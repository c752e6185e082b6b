import { estargz } from '../../../formats/estargz/index.ts';
import { formatContract } from '../contract.ts';

// JSON holds text: a TOC cannot carry names that are not UTF-8, and says so.
const NOT_UTF8 = new Set(['invalidUtf8Names', 'invalidUtf8LongNames', 'paxBinaryCharset', 'signedChecksum']);
const SPARSE = /sparse/i;

formatContract({
  format: estargz,
  options: {
    default: {},
    'small chunks': { chunkSize: 4096 },
    'shared members': { chunkSize: 4096, minChunkSize: 20_000 },
    'external TOC': { externalToc: true },
    'kept diffID': { keepDiffId: true },
  },
  refuses(option, name) {
    if (NOT_UTF8.has(name)) return 'UNSUPPORTED';
    // A time in the year 2^63 has no RFC 3339 form.
    if (name === 'base256Numbers') return 'UNSUPPORTED';
    if (name === 'hardLinkForward' || name === 'hardLinkOutOfLayer') return 'CORRUPT';
    return option === 'kept diffID' && SPARSE.test(name) ? 'UNSUPPORTED' : undefined;
  },
  openRequests: 2,
});
