// Deflate (RFC 1951). The caller places up to SEGMENT bytes of input at `place(size)`, calls `compress` and takes what
// is at OUTPUT; longer input is a row of segments. Before each `compress` it may place what is known of the matches.
import { align, outputAt, putStored, resetBits, rewindOutput } from './deflate-bits';
import { prepareLengths } from './deflate-block';
import { compressRange, forget, knownAt, setKnown } from './deflate-known';
import { DATA, FIRST, HISTORY, KNOWN, KNOWN_SIZE, MEMORY_END, OUTPUT, ROW_BITS, ROWS, SEGMENT, TRIPLE_BITS, TRIPLES } from './deflate-map';
import { setEffort } from './deflate-match';

export { KNOWN, KNOWN_SIZE, MEMORY_END, OUTPUT, SEGMENT, knownAt, setEffort, setKnown };

/** What `compress` is to do at the end of its input. */
const CONTINUE: u32 = 0;
const FINISH: u32 = 1;

/** First position no earlier input has used. The tables may hold older ones, which are out of reach for what follows. */
let unused: usize = 65536;
/** Where the present segment lies, and how many bytes in front of it matches may reach. */
let at: usize = DATA + FIRST;
let reach: usize = 0;
/** Where the first byte of the input lies, or would lie if the segments in front had stayed. */
let origin: usize = 0;

prepareLengths();

/** End of the static data, for the build to check. */
export function staticEnd(): usize {
  return __heap_base;
}

/**
 * Begins a stream whose first segment has `size` bytes and returns where to put them. Small inputs share the tables one
 * after another, each at positions of its own, since clearing them takes longer than compressing a small input. The
 * result does not depend on what the tables held: of each row only the positions within reach are used, in order.
 */
export function begin(size: u32): usize {
  if (unused + size > 65536) {
    memory.fill(TRIPLES, 0, 2 << TRIPLE_BITS);
    memory.fill(ROWS, 0, 64 << ROW_BITS);
    unused = FIRST;
  }
  at = DATA + unused;
  unused += size;
  reach = 0;
  origin = at;
  forget();
  resetBits();
  return at;
}

/** Makes the end of the last segment, which was full, the history of the next; returns where to put the next. */
export function next(): usize {
  memory.copy(at - HISTORY, at + SEGMENT - HISTORY, HISTORY);
  reach = HISTORY;
  origin -= SEGMENT;
  return at;
}

/** Compresses the segment; returns the size of the output so far complete. */
export function compress(size: u32, end: u32): u32 {
  rewindOutput();
  // Comparisons look past the end before lengths are cut to it; what they find there must always be the same.
  memory.fill(at + size, 0, 32);
  compressRange(origin, at - reach, at, at + size, end == FINISH);
  return finish(end);
}

/** Stores the segment as it is. */
export function copy(size: u32, end: u32): u32 {
  rewindOutput();
  if (size > 0 || end == FINISH) putStored(at, size, end == FINISH);
  return finish(end);
}

/** Without a final block the stream is brought to a byte boundary by an empty stored block. */
function finish(end: u32): u32 {
  if (end == FINISH) align();
  else if (end != CONTINUE) putStored(at, 0, false);
  return <u32>(outputAt - OUTPUT);
}
