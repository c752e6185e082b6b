import type { Ztoc } from '../../../formats/soci/layout.ts';
import { roundUp } from '../../../src/core/bytes.ts';

/** Where a reader takes each record's header blocks to begin (notes §2.3): behind the payload of the record before. */
export function headerOffsets({ records }: Pick<Ztoc, 'records'>): number[] {
  let next = 0;
  return records.map(({ offset, size }) => {
    const start = next;
    next = roundUp(offset + size, 512);
    return start;
  });
}
