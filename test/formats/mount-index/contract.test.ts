import type { ErrorCode } from '../../../src/core/errors.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { formatContract } from '../contract.ts';

/** What no layer can have. */
const REFUSED: Readonly<Record<string, ErrorCode>> = { hardLinkOutOfLayer: 'CORRUPT' };

formatContract({
  format: mountIndex,
  options: { default: {}, 'large spans': { spanSize: 256 << 10 } },
  refuses: (_option, name) => REFUSED[name],
  // The blob about it is another one.
  openRequests: 0,
});
