import { LONG_RUN } from './inflate-map';
import { LAST_LITERALS, LAST_START, MIN_MATCH, putLiterals, putMatchLength } from './lz4-compress';
import { equalBytes, extend } from './match';

/** Of the matches in a log (see zstd-replay.ts). */
const MIN_KNOWN: u32 = 3;
const MAX_KNOWN: u32 = 258;
const PIECE_HEADER: usize = 16;

/**
 * Compresses like `compress` with what is known of the matches, `logSize` bytes at `log`: without a search, and smaller, since
 * a deflate compressor looks harder. Returns 0 when next to nothing is known: it may not have looked.
 */
export function compressKnown(input: usize, size: u32, log: usize, logSize: u32, output: usize): u32 {
  if (size <= <u32>LAST_START) return 0;
  const end = input + size;
  const lastStart = end - LAST_START;
  const matchEnd = end - LAST_LITERALS;
  const logEnd = log + logSize;
  let entriesEnd = log;
  /** Where the literals in front of the next known match begin, and those that are not written yet. */
  let run: usize = 0;
  let literals = input;
  let to = output;
  let matched: u32 = 0;
  for (;;) {
    if (log >= entriesEnd) {
      if (logEnd - log < PIECE_HEADER) break;
      const entries = load<u32>(log, 8);
      run = input + load<u32>(log) + load<u32>(log, 12);
      log += PIECE_HEADER;
      entriesEnd = log + min<usize>(<usize>entries << 2, logEnd - log);
      continue;
    }
    const word = load<u32>(log);
    log += 4;
    const count = word >> 23;
    if (count == LONG_RUN) {
      run += word & 0x7f_ffff;
      continue;
    }
    const whole = ((word >> 15) & 255) + MIN_KNOWN;
    const distance = (word & 0x7fff) + 1;
    // Not in front of `literals`: the match before may have been longer than its log said.
    const from = max(run + count, literals);
    run += count + whole;
    if (from > lastStart) break;
    const longest = <i32>(min(run, matchEnd) - from);
    if (longest < <i32>MIN_MATCH || distance > <u32>(from - input)) continue;
    let length = equalBytes(from, distance);
    if (length >= <u32>longest) length = whole < MAX_KNOWN ? longest : extend(from, distance, longest, matchEnd);
    else if (length == 16) length = extend(from, distance, 16, from + longest);
    if (length < <u32>MIN_MATCH) continue;
    matched += length;
    const token = to;
    to = putLiterals(literals, from - literals, to);
    literals = from + length;
    store<u16>(to, distance);
    to = putMatchLength(token, length - MIN_MATCH, to + 2);
  }
  if (matched < size >> 3) return 0;
  return <u32>(putLiterals(literals, end - literals, to) - output);
}
