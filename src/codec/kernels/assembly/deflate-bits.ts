// Bit writer (RFC 1951, 3.1.1) and stored blocks.
import { OUTPUT } from './deflate-map';

/** Next byte of output; the bits that do not fill a byte yet, and their number: at most 7 between calls. */
export let outputAt: usize = OUTPUT;
let pending: u64 = 0;
let pendingBits: u64 = 0;

/** Begins a stream. */
export function resetBits(): void {
  pending = 0;
  pendingBits = 0;
}

/** Begins a run: the stream goes on, at the start of the output area. */
export function rewindOutput(): void {
  outputAt = OUTPUT;
}

/** Appends `count` bits, at most 57. */
// @inline
export function put(bits: u64, count: u64): void {
  pending |= bits << pendingBits;
  pendingBits += count;
  store<u64>(outputAt, pending);
  outputAt += <usize>(pendingBits >> 3);
  pending >>= pendingBits & 56;
  pendingBits &= 7;
}

/** Fills up to a byte boundary with zeros. */
export function align(): void {
  if (pendingBits != 0) outputAt++;
  resetBits();
}

/** Bits that `putStored` would write. */
export function storedCost(size: u32): u32 {
  const blocks = size == 0 ? 1 : (size + 65534) / 65535;
  const padding = (8 - ((<u32>pendingBits + 3) & 7)) & 7;
  return 3 + padding + 32 + (blocks - 1) * 40 + (size << 3);
}

/** Bytes as stored blocks (RFC 1951, 3.2.4), as many as it takes; `final` marks the last of them. */
export function putStored(from: usize, size: u32, final: bool): void {
  let left = size;
  do {
    const n = min<u32>(left, 65535);
    left -= n;
    put(final && left == 0 ? 1 : 0, 3);
    align();
    store<u32>(outputAt, n | (~n << 16));
    memory.copy(outputAt + 4, from, n);
    outputAt += 4 + n;
    from += n;
  } while (left > 0);
}

/**
 * Writes the symbols of matches `[from, end)`, whose bytes begin at `bytes`. Each match is preceded by its literals. The
 * literal code has at most 14 bits, so that four literals, or a length and a distance, fit behind 7 pending bits.
 */
export function putMatches(from: usize, end: usize, bytes: usize, codes: usize, distanceCodes: usize, lengthInfo: usize): void {
  let out = outputAt;
  let held = pending;
  let count = pendingBits;
  let code: u32;
  for (; from < end; from += 8) {
    let run = load<u32>(from);
    while (run >= 4) {
      const four = load<u32>(bytes);
      code = load<u32>(codes + ((four & 255) << 2));
      held |= <u64>(code & 0xffff) << count;
      count += code >> 16;
      code = load<u32>(codes + (((four >> 8) & 255) << 2));
      held |= <u64>(code & 0xffff) << count;
      count += code >> 16;
      code = load<u32>(codes + (((four >> 16) & 255) << 2));
      held |= <u64>(code & 0xffff) << count;
      count += code >> 16;
      code = load<u32>(codes + ((four >> 24) << 2));
      held |= <u64>(code & 0xffff) << count;
      count += code >> 16;
      store<u64>(out, held);
      out += <usize>(count >> 3);
      held >>= count & 56;
      count &= 7;
      bytes += 4;
      run -= 4;
    }
    // The last three or fewer without branches, which could not be predicted.
    const rest = load<u32>(bytes);
    code = select<u32>(load<u32>(codes + ((rest & 255) << 2)), 0, run > 0);
    held |= <u64>(code & 0xffff) << count;
    count += code >> 16;
    code = select<u32>(load<u32>(codes + (((rest >> 8) & 255) << 2)), 0, run > 1);
    held |= <u64>(code & 0xffff) << count;
    count += code >> 16;
    code = select<u32>(load<u32>(codes + (((rest >> 16) & 255) << 2)), 0, run > 2);
    held |= <u64>(code & 0xffff) << count;
    count += code >> 16;
    store<u64>(out, held);
    out += <usize>(count >> 3);
    held >>= count & 56;
    count &= 7;
    bytes += run;

    const match = load<u32>(from, 4);
    if (match == 0) continue;
    const length = match >> 20;
    bytes += length;
    const info = load<u32>(lengthInfo + (length << 2));
    code = load<u32>(codes + ((info & 511) << 2));
    held |= <u64>((code & 0xffff) | ((info >> 16) << (code >> 16))) << count;
    count += (code >> 16) + ((info >> 9) & 7);
    const symbol = (match >> 15) & 31;
    const extra = select<u32>(0, (symbol >> 1) - 1, symbol < 4);
    code = load<u32>(distanceCodes + (symbol << 2));
    held |= <u64>((code & 0xffff) | ((match & 0x7fff & ((1 << extra) - 1)) << (code >> 16))) << count;
    count += (code >> 16) + extra;
    store<u64>(out, held);
    out += <usize>(count >> 3);
    held >>= count & 56;
    count &= 7;
  }
  outputAt = out;
  pending = held;
  pendingBits = count;
}
