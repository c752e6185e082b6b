import type { ConvertProgress } from '../../image/convert-report.ts';

/** Pieces come by the thousand; nobody looks more often than this. */
const EVERY_MS = 100;

/** Passes events on, but those about bytes added up. */
export function throttled(tell: (event: ConvertProgress) => void, now: () => number = () => performance.now()): (event: ConvertProgress) => void {
  let last = now();
  let packed = 0;
  let tar = 0;
  const flush = (): void => {
    if (packed !== 0 || tar !== 0) tell({ type: 'bytes', packed, tar });
    [packed, tar, last] = [0, 0, now()];
  };
  return (event) => {
    if (event.type === 'bytes') {
      packed += event.packed;
      tar += event.tar;
      if (now() - last >= EVERY_MS) flush();
      return;
    }
    flush();
    tell(event);
  };
}
