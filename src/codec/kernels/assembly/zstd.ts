// Zstandard (RFC 8878): makes a frame of an input that is all at hand, about as small as the reference's level 3 does. The caller
// places the input at DATA and what is known of its matches behind it.
import { codeSequences, forgetOffsets, prepareCodes, settleOffsets } from './zstd-codes';
import { prepareLogarithms } from './zstd-fse';
import { forgetLiteralCode, putLiterals, settleLiteralCode } from './zstd-literals';
import { DATA, LARGEST, LITERALS, MAX_BLOCK, MEMORY_END, MEMORY_LIMIT, OUTPUT_SLACK, SEQUENCES, SLACK } from './zstd-map';
import { beginReplay, matched, replay } from './zstd-replay';
import { beginSearch, search } from './zstd-search';
import { putSequences } from './zstd-sequences';
import { forgetTables, prepareTables, settleTables } from './zstd-tables';

export { DATA, LARGEST, MEMORY_END, MEMORY_LIMIT, OUTPUT_SLACK, SLACK };

const MAGIC: u32 = 0xfd2f_b528;
/** In the frame header descriptor: no window is stated, the content is one segment; two or four bytes tell its size. */
const SINGLE_SEGMENT: u32 = 0x20;
const SIZE_IN_2: u32 = 0x40;
const SIZE_IN_4: u32 = 0x80;
/** Block types. */
const RAW: u32 = 0;
const COMPRESSED: u32 = 2;

/** Known matches of three bytes from further away cost more than three literals, as a rule. */
const NEAR: u32 = 1024;

prepareLogarithms();
prepareCodes();
prepareTables();

/** End of the static data, for the build to check. */
export function staticEnd(): usize {
  return __heap_base;
}

/** Makes a frame of `size` bytes at `input` and returns its size: with `logSize` bytes at `log` of what is known of their matches. */
export function compress(input: usize, size: u32, log: usize, logSize: u32, output: usize): u32 {
  // Comparisons look past the end before lengths are cut to it; what they find there must always be the same.
  memory.fill(input + size, 0, SLACK);
  beginReplay(log, logSize);
  beginSearch(input, size);
  forgetOffsets();
  forgetLiteralCode();
  forgetTables();
  const end = input + size;
  let to = putFrameHeader(size, output);
  let at = input;
  do {
    const blockEnd = min(end, at + MAX_BLOCK);
    to = putBlock(input, at, blockEnd, logSize != 0, blockEnd == end, to);
    at = blockEnd;
  } while (at < end);
  return <u32>(to - output);
}

/** Writes the block `[at, end)` of the input that begins at `start`, compressed if that makes it smaller; returns its end. */
function putBlock(start: usize, at: usize, end: usize, known: bool, last: bool, to: usize): usize {
  const size = <u32>(end - at);
  let sequencesEnd: usize = SEQUENCES;
  if (known) sequencesEnd = replay(start, at, end, NEAR, SEQUENCES);
  // Who found next to nothing may not have looked, or not as far as the input reaches.
  if (!known || matched < size >> 3) sequencesEnd = search(start, at, end, SEQUENCES);
  const literalsEnd = codeSequences(at, end, sequencesEnd);
  const packedEnd = putSequences(sequencesEnd, putLiterals(<u32>(literalsEnd - LITERALS), to + 3));
  const packed = <u32>(packedEnd - to) - 3;
  if (packed < size) {
    settleOffsets();
    settleLiteralCode();
    settleTables();
    putBlockHeader(to, last, COMPRESSED, packed);
    return packedEnd;
  }
  putBlockHeader(to, last, RAW, size);
  memory.copy(to + 3, at, size);
  return to + 3 + size;
}

function putBlockHeader(to: usize, last: bool, type: u32, size: u32): void {
  const word = <u32>last | (type << 1) | (size << 3);
  store<u16>(to, word);
  store<u8>(to, word >> 16, 2);
}

function putFrameHeader(size: u32, to: usize): usize {
  store<u32>(to, MAGIC);
  if (size < 256) {
    store<u8>(to, SINGLE_SEGMENT, 4);
    store<u8>(to, size, 5);
    return to + 6;
  }
  if (size < 65536 + 256) {
    store<u8>(to, SINGLE_SEGMENT | SIZE_IN_2, 4);
    store<u16>(to, size - 256, 5);
    return to + 7;
  }
  store<u8>(to, SINGLE_SEGMENT | SIZE_IN_4, 4);
  store<u32>(to, size, 5);
  return to + 9;
}
