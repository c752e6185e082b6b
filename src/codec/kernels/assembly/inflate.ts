// Streaming inflate (RFC 1951). The caller places input, says where output goes and calls `run` until it has what it
// wants; between calls everything needed is in the globals below, so that a run can stop at any symbol.
import { copyMatch } from './inflate-copy';
import {
  CODE_TABLE, DISTANCE_BITS, DISTANCE_TABLE, HISTORY, INPUT, INPUT_SIZE, INPUT_SLACK, LENS, LITERAL_BITS, LITERAL_TABLE, LOG, LOG_ENTRIES, MEMORY_END, OUTPUT, OUTPUT_SIZE, SORTED,
} from './inflate-map';
import { emptyMatches, logMatch, matchedTo, matchesEnd, seekMatch, setMatches, soughtOut } from './inflate-matches';
import {
  BAD_BLOCK_TYPE, BAD_CODE_LENGTHS, BAD_DISTANCE, BAD_DISTANCE_CODE, BAD_LITERAL_CODE, BAD_REPEAT, BAD_STORED_LENGTH, BAD_SYMBOL, CONTINUE, DONE, LOG_FULL,
  NEED_INPUT, NO_END_OF_BLOCK, OUTPUT_FULL, TOO_FAR_BACK, TOO_MANY_SYMBOLS, TRUNCATED,
} from './inflate-status';
import { buildCodeTable, buildDistanceTable, buildFixedTables, buildLiteralTable, END_OF_BLOCK, EXCEPTION, prepareMeanings, SUBTABLE } from './inflate-tables';

export { INPUT, INPUT_SIZE, OUTPUT, OUTPUT_SIZE, HISTORY, LOG, LOG_ENTRIES, MEMORY_END, emptyMatches, seekMatch, soughtOut };

/** Where the decoder stands: in front of a block header, inside a stored or compressed block, or behind the last. */
const AT_HEADER: u32 = 0;
const IN_STORED: u32 = 1;
const IN_CODES: u32 = 2;
const AT_END: u32 = 3;

/** A header takes at most 17 + 19 * 3 + 316 * 14 bits = 563 bytes: with fewer at hand, wait for more or for the end. */
const HEADER_ROOM: usize = 640;

let state: u32 = AT_HEADER;
let lastBlock: bool = false;
let tablesAreFixed: bool = false;
let storedLeft: u32 = 0;
/** Bits of the input that precede `inputAt` and are not consumed yet: at most 7 between runs. */
let bitBuffer: u64 = 0;
let bitCount: u64 = 0;
/** Bits of the first byte that belong to what came before. */
let bitsToSkip: u32 = 0;

/** Next byte of input, end of input, and whether nothing will come after it. */
export let inputAt: usize = INPUT;
let inputEnd: usize = INPUT;
let inputIsLast: bool = false;
/** Next byte of output, where to stop, and the oldest byte that distances may reach. */
export let outputAt: usize = OUTPUT;
let outputLimit: usize = OUTPUT;
let outputStart: usize = OUTPUT;
/** Block starts logged since the log was last emptied; logging is off while `logLimit` is 0. */
export let logged: u32 = 0;
let logLimit: u32 = 0;

prepareMeanings();

/** End of the static data, for the build to check. */
export function staticEnd(): usize {
  return __heap_base;
}

/** Begins a stream whose first `bits` bits (0..7) of the next input byte are to be passed over. */
export function begin(bits: u32, log: bool): void {
  state = AT_HEADER;
  lastBlock = false;
  bitBuffer = 0;
  bitCount = 0;
  bitsToSkip = bits;
  logLimit = log ? LOG_ENTRIES : 0;
  logged = 0;
}

export function emptyLog(): void {
  logged = 0;
}

/**
 * Decodes until the input or the room for output is used up, the log is full, the stream has ended or is found broken.
 * A step that begins below `limit` may pass it by the length of one match.
 */
export function run(at: usize, end: usize, last: bool, out: usize, limit: usize, start: usize): i32 {
  inputAt = at;
  inputEnd = end;
  inputIsLast = last;
  outputAt = out;
  outputLimit = limit;
  outputStart = start;
  if (last) memory.fill(end, 0, INPUT_SLACK);
  let status: i32 = CONTINUE;
  while (status == CONTINUE) {
    if (state == AT_HEADER) status = blockHeader();
    else if (state == IN_STORED) status = stored();
    else if (state == IN_CODES) status = codes();
    else status = DONE;
  }
  if (status < 0) {
    settle();
    if (inputAt > end) {
      // Past the end of the input there are only made up zeros: whatever they mean, the fault is the missing input.
      status = TRUNCATED;
      inputAt = end;
    }
  }
  return status;
}

// @inline
function bits(n: u64): u32 {
  const value = <u32>(bitBuffer & ((<u64>1 << n) - 1));
  bitBuffer >>= n;
  bitCount -= n;
  return value;
}

// @inline
function refill(): void {
  bitBuffer |= load<u64>(inputAt) << bitCount;
  inputAt += <usize>(7 - (bitCount >> 3));
  bitCount |= 56;
}

/** Gives whole unused bytes back, and clears what the branch-free refill left above the counted bits. */
function settle(): void {
  inputAt -= <usize>(bitCount >> 3);
  bitCount &= 7;
  bitBuffer &= (<u64>1 << bitCount) - 1;
}

function consumedTooMuch(): bool {
  return inputAt > inputEnd + <usize>(bitCount >> 3);
}

function blockHeader(): i32 {
  // Who has all the output that was wanted does not look further: what follows may be missing.
  if (outputAt >= outputLimit) return OUTPUT_FULL;
  if (logLimit != 0 && logged == logLimit) return LOG_FULL;
  if (!inputIsLast && inputEnd - inputAt < HEADER_ROOM) return NEED_INPUT;
  if (inputAt >= inputEnd && bitCount < 3) return TRUNCATED;
  if (logLimit != 0) {
    const entry = LOG + (logged << 3);
    store<u32>(entry, (<u32>(inputAt - INPUT) << 3) - <u32>bitCount + bitsToSkip);
    store<u32>(entry, <u32>(outputAt - OUTPUT), 4);
    logged++;
  }
  refill();
  bits(bitsToSkip);
  bitsToSkip = 0;
  lastBlock = bits(1) != 0;
  const kind = bits(2);
  if (kind == 0) {
    // The rest of the byte is padding.
    settle();
    if (consumedTooMuch()) return TRUNCATED;
    bitBuffer = 0;
    bitCount = 0;
    if (inputEnd - inputAt < 4) {
      inputAt = inputEnd;
      return TRUNCATED;
    }
    const length = load<u32>(inputAt);
    inputAt += 4;
    if ((length & 0xffff) != (~length >> 16)) return BAD_STORED_LENGTH;
    storedLeft = length & 0xffff;
    state = IN_STORED;
    return CONTINUE;
  }
  if (kind == 3) return BAD_BLOCK_TYPE;
  if (kind == 1) {
    if (!tablesAreFixed) buildFixedTables();
    tablesAreFixed = true;
  } else {
    tablesAreFixed = false;
    const status = dynamicHeader();
    if (status != CONTINUE) return status;
  }
  settle();
  if (consumedTooMuch()) return TRUNCATED;
  state = IN_CODES;
  return CONTINUE;
}

/** RFC 1951, 3.2.7. */
function dynamicHeader(): i32 {
  const literals = bits(5) + 257;
  const distances = bits(5) + 1;
  const codeLengths = bits(4) + 4;
  if (literals > 286 || distances > 30) return TOO_MANY_SYMBOLS;
  const order = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);
  // The lengths of the code length code are kept in SORTED's tail end until its table is built.
  const lens = SORTED + 512;
  memory.fill(lens, 0, 19);
  for (let i: u32 = 0; i < codeLengths; i++) {
    refill();
    store<u8>(lens + load<u8>(order + i), bits(3));
  }
  if (!buildCodeTable(lens)) return BAD_CODE_LENGTHS;
  const total = literals + distances;
  let at: u32 = 0;
  while (at < total) {
    refill();
    const entry = load<u32>(CODE_TABLE + ((<u32>bitBuffer & 127) << 2));
    bits(entry & 63);
    const symbol = entry >> 16;
    if (symbol < 16) {
      store<u8>(LENS + at, symbol);
      at++;
      continue;
    }
    let value: u32 = 0;
    let times: u32;
    if (symbol == 16) {
      if (at == 0) return BAD_REPEAT;
      value = load<u8>(LENS + at - 1);
      times = 3 + bits(2);
    } else if (symbol == 17) times = 3 + bits(3);
    else times = 11 + bits(7);
    if (at + times > total) return BAD_REPEAT;
    memory.fill(LENS + at, <u8>value, times);
    at += times;
  }
  if (load<u8>(LENS + 256) == 0) return NO_END_OF_BLOCK;
  if (!buildDistanceTable(LENS + literals, distances)) return BAD_DISTANCE_CODE;
  if (!buildLiteralTable(literals)) return BAD_LITERAL_CODE;
  return CONTINUE;
}

function stored(): i32 {
  if (storedLeft != 0) {
    if (outputAt >= outputLimit) return OUTPUT_FULL;
    const n = min<usize>(min<usize>(storedLeft, inputEnd - inputAt), outputLimit - outputAt);
    memory.copy(outputAt, inputAt, n);
    inputAt += n;
    outputAt += n;
    storedLeft -= <u32>n;
    if (storedLeft != 0) return outputAt >= outputLimit ? OUTPUT_FULL : inputIsLast ? TRUNCATED : NEED_INPUT;
  }
  state = lastBlock ? AT_END : AT_HEADER;
  return CONTINUE;
}

function endBlock(): i32 {
  settle();
  state = lastBlock ? AT_END : AT_HEADER;
  // What is left of the last byte is padding.
  if (lastBlock) bitCount = 0;
  return CONTINUE;
}

/** Compressed data: the fast loop while at least 16 bytes of input are at hand, then one symbol at a time. */
function codes(): i32 {
  if (outputAt >= outputLimit) return OUTPUT_FULL;
  const limit = outputLimit;
  const start = outputStart;
  const fast = inputEnd - 16;
  let input = inputAt;
  let out = outputAt;
  let buffer = bitBuffer;
  let count = bitCount;
  const literalMask: u64 = (1 << LITERAL_BITS) - 1;
  const distanceMask: u64 = (1 << DISTANCE_BITS) - 1;
  let matches = matchesEnd;
  let matched = matchedTo;
  let status: i32 = CONTINUE;

  if (input < fast) {
    buffer |= load<u64>(input) << count;
    input += <usize>(7 - (count >> 3));
    count |= 56;
    let entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
    while (input < fast && out < limit) {
      buffer |= load<u64>(input) << count;
      input += <usize>(7 - ((count >> 3) & 7));
      count |= 56;
      // At least 56 bits: up to three literals of the first level (33 bits), or two and a length (22 + 20 bits).
      if (<i32>entry < 0) {
        store<u8>(out, entry >> 16);
        buffer >>= entry;
        count -= entry;
        entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
        if (<i32>entry < 0) {
          store<u8>(out, entry >> 16, 1);
          buffer >>= entry;
          count -= entry;
          entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
          if (<i32>entry < 0) {
            store<u8>(out, entry >> 16, 2);
            out += 3;
            buffer >>= entry;
            count -= entry;
            entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
            continue;
          }
          out += 2;
        } else out += 1;
      }
      if (entry & EXCEPTION) {
        if (entry & SUBTABLE) {
          buffer >>= entry;
          count -= entry & 63;
          entry = load<u32>(LITERAL_TABLE + (((entry >> 16) + (<u32>buffer & ((<u32>1 << ((entry >> 8) & 15)) - 1))) << 2));
          if (<i32>entry < 0) {
            store<u8>(out, entry >> 16);
            out += 1;
            buffer >>= entry;
            count -= entry;
            entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
            continue;
          }
        }
        if (entry & EXCEPTION) {
          buffer >>= entry;
          count -= entry & 63;
          status = entry & END_OF_BLOCK ? DONE : BAD_SYMBOL;
          break;
        }
      }
      let saved = buffer;
      buffer >>= entry;
      count -= entry;
      const length = (entry >> 16) + <u32>((saved & ~(<u64>-1 << entry)) >> (entry >> 8));

      buffer |= load<u64>(input) << count;
      input += <usize>(7 - ((count >> 3) & 7));
      count |= 56;
      entry = load<u32>(DISTANCE_TABLE + (<usize>(buffer & distanceMask) << 2));
      if (entry & EXCEPTION) {
        if (entry & SUBTABLE) {
          buffer >>= entry;
          count -= entry & 63;
          entry = load<u32>(DISTANCE_TABLE + (((entry >> 16) + (<u32>buffer & ((<u32>1 << ((entry >> 8) & 15)) - 1))) << 2));
        }
        if (entry & EXCEPTION) {
          status = BAD_DISTANCE;
          break;
        }
      }
      saved = buffer;
      buffer >>= entry;
      count -= entry;
      const distance: usize = (entry >> 16) + <u32>((saved & ~(<u64>-1 << entry)) >> (entry >> 8));
      if (distance > out - start) {
        status = TOO_FAR_BACK;
        break;
      }
      entry = load<u32>(LITERAL_TABLE + (<usize>(buffer & literalMask) << 2));
      matches = logMatch(matches, <u32>(out - matched), <u32>distance, length);
      copyMatch(out, distance, length);
      out += length;
      matched = out;
    }
    count &= 63;
  }

  inputAt = input;
  outputAt = out;
  setMatches(matches, matched);
  bitBuffer = buffer;
  bitCount = count;
  settle();
  if (status == DONE) return endBlock();
  if (status < 0) return status;
  if (out >= limit) return OUTPUT_FULL;
  return inputIsLast ? codesNearEnd() : NEED_INPUT;
}

/** The entry for the next code; if that is in a sub-table, the bits that led there are used up. */
function lookUp(table: usize, tableBits: u32): u32 {
  const entry = load<u32>(table + (<usize>(bitBuffer & ((<u64>1 << tableBits) - 1)) << 2));
  if (!(entry & EXCEPTION && entry & SUBTABLE)) return entry;
  bits(tableBits);
  return load<u32>(table + (((entry >> 16) + (<u32>bitBuffer & ((<u32>1 << ((entry >> 8) & 15)) - 1))) << 2));
}

/** The rest of the stream once its end is in sight: a symbol counts only if all its bits are real. */
function codesNearEnd(): i32 {
  while (outputAt < outputLimit) {
    refill();
    let entry = lookUp(LITERAL_TABLE, LITERAL_BITS);
    if (<i32>entry < 0) {
      bits(entry & 63);
      if (consumedTooMuch()) return TRUNCATED;
      store<u8>(outputAt, entry >> 16);
      outputAt++;
      continue;
    }
    if (entry & EXCEPTION) {
      bits(entry & 63);
      if (consumedTooMuch()) return TRUNCATED;
      return entry & END_OF_BLOCK ? endBlock() : BAD_SYMBOL;
    }
    let saved = bitBuffer;
    bits(entry & 63);
    const length = (entry >> 16) + <u32>((saved & ~(<u64>-1 << entry)) >> (entry >> 8));
    refill();
    entry = lookUp(DISTANCE_TABLE, DISTANCE_BITS);
    saved = bitBuffer;
    bits(entry & 63);
    if (consumedTooMuch()) return TRUNCATED;
    if (entry & EXCEPTION) return BAD_DISTANCE;
    const distance: usize = (entry >> 16) + <u32>((saved & ~(<u64>-1 << entry)) >> (entry >> 8));
    if (distance > outputAt - outputStart) return TOO_FAR_BACK;
    setMatches(logMatch(matchesEnd, <u32>(outputAt - matchedTo), <u32>distance, length), outputAt + length);
    copyMatch(outputAt, distance, length);
    outputAt += length;
  }
  settle();
  return OUTPUT_FULL;
}
