// The sequences section of a block (RFC 8878, 3.1.1.3.2).
import { beginBits, endBits, put } from './zstd-bits';
import { bitsOf, firstState, logOf, nextState, transition } from './zstd-fse';
import { SEQUENCE_SIZE, SEQUENCES } from './zstd-map';
import { beginTables, chooseTable, described, LITERAL_LENGTH, MATCH_LENGTH, modes, OFFSET } from './zstd-tables';

/** Writes the section for the coded sequences up to `end` to `to`; returns its end. */
export function putSequences(end: usize, to: usize): usize {
  const count = <u32>(end - SEQUENCES) / <u32>SEQUENCE_SIZE;
  beginTables();
  if (count < 128) store<u8>(to++, count);
  else if (count < 0x7f00) {
    store<u8>(to, (count >> 8) + 128);
    store<u8>(to, count, 1);
    to += 2;
  } else {
    store<u8>(to, 255);
    store<u16>(to, count - 0x7f00, 1);
    to += 3;
  }
  if (count == 0) return to;
  const literalTable = chooseTable(LITERAL_LENGTH, count, to + 1);
  const offsetTable = chooseTable(OFFSET, count, described);
  const matchTable = chooseTable(MATCH_LENGTH, count, described);
  store<u8>(to, modes);
  return putStates(end, described, literalTable, offsetTable, matchTable);
}

/** Writes the sequences as one stream that is read backwards, so the last comes first, and of each what is read first comes last (3.1.1.3.2.1.1). */
function putStates(end: usize, to: usize, literalTable: usize, offsetTable: usize, matchTable: usize): usize {
  let at = end - SEQUENCE_SIZE;
  let codes = load<u32>(at, 8);
  let literalState = firstState(literalTable, codes & 255);
  let offsetState = firstState(offsetTable, (codes >> 8) & 255);
  let matchState = firstState(matchTable, (codes >> 16) & 255);
  // At most 55 extra bits: 31 of the lengths, which share a block, and 24 of the offset.
  let held: u64 = load<u64>(at);
  let bits: u64 = codes >> 24;
  store<u64>(to, held);
  to += <usize>(bits >> 3);
  held >>= bits & 56;
  bits &= 7;
  while (at > SEQUENCES) {
    at -= SEQUENCE_SIZE;
    codes = load<u32>(at, 8);
    const offset = transition(offsetTable, (codes >> 8) & 255);
    const match = transition(matchTable, (codes >> 16) & 255);
    const literal = transition(literalTable, codes & 255);
    const offsetBits = bitsOf(offset, offsetState);
    const matchBits = bitsOf(match, matchState);
    const literalBits = bitsOf(literal, literalState);
    held |= <u64>(offsetState & ((1 << offsetBits) - 1)) << bits;
    bits += offsetBits;
    held |= <u64>(matchState & ((1 << matchBits) - 1)) << bits;
    bits += matchBits;
    held |= <u64>(literalState & ((1 << literalBits) - 1)) << bits;
    bits += literalBits;
    offsetState = nextState(offsetTable, offset, offsetState, offsetBits);
    matchState = nextState(matchTable, match, matchState, matchBits);
    literalState = nextState(literalTable, literal, literalState, literalBits);
    const extraBits: u64 = codes >> 24;
    if (bits + extraBits > 63) {
      store<u64>(to, held);
      to += <usize>(bits >> 3);
      held >>= bits & 56;
      bits &= 7;
    }
    held |= load<u64>(at) << bits;
    bits += extraBits;
    store<u64>(to, held);
    to += <usize>(bits >> 3);
    held >>= bits & 56;
    bits &= 7;
  }
  beginBits(to);
  put(held, bits);
  const matchLog = logOf(matchTable);
  const offsetLog = logOf(offsetTable);
  const literalLog = logOf(literalTable);
  put(matchState & ((1 << matchLog) - 1), matchLog);
  put(offsetState & ((1 << offsetLog) - 1), offsetLog);
  put(literalState & ((1 << literalLog) - 1), literalLog);
  put(1, 1);
  return endBits();
}
