// The match log: which matches the stream had in what is new in the output window, so that nobody has to find them again.
import { LONG_RUN, MATCHES, OUTPUT } from './inflate-map';

/** End of the log, and of the last match in the output. */
export let matchesEnd: usize = MATCHES;
export let matchedTo: usize = OUTPUT;
/** Where the log begins in the output. */
let logStart: usize = OUTPUT;
/** What the last search was for, and where it ended: an entry, and the byte of output that its literals begin at. */
let soughtFor: usize = OUTPUT;
let sought: usize = MATCHES;
export let soughtOut: usize = OUTPUT;

/** Begins the log anew at `out`, the next byte of output. */
export function emptyMatches(out: usize): void {
  matchesEnd = sought = MATCHES;
  matchedTo = logStart = soughtFor = soughtOut = out;
}

/** Takes note of what was logged, and of the end of the last match. */
export function setMatches(end: usize, out: usize): void {
  matchesEnd = end;
  matchedTo = out;
}

/** Writes a match behind `run` literals at `end` and returns the new end. The hot loop keeps both for itself until it ends. */
// @inline
export function logMatch(end: usize, run: u32, distance: u32, length: u32): usize {
  if (run >= LONG_RUN) {
    store<u32>(end, (LONG_RUN << 23) | run);
    end += 4;
    run = 0;
  }
  store<u32>(end, (run << 23) | ((length - 3) << 15) | (distance - 1));
  return end + 4;
}

/**
 * Returns the entry of the first match that begins at `out` or behind it, or the end of the log; `soughtOut` is where the
 * literals in front of it begin. Who asks in ascending order has the log read only once.
 */
export function seekMatch(out: usize): usize {
  let entry = sought;
  let at = soughtOut;
  // A match that reaches beyond what was sought is passed over, so that `at` may lie behind what is sought next.
  if (out < at && out < soughtFor) {
    entry = MATCHES;
    at = logStart;
  }
  for (; entry < matchesEnd; entry += 4) {
    const word = load<u32>(entry);
    const run = word >> 23;
    if (run == LONG_RUN) at += word & 0x7f_ffff;
    else if (at + run >= out) break;
    else at += run + ((word >> 15) & 255) + 3;
  }
  soughtFor = out;
  sought = entry;
  soughtOut = at;
  return entry;
}
