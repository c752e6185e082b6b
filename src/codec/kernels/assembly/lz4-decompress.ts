import { copyMatch } from './inflate-copy';

/** What `decompress` returns: the block is good, or what is wrong with it. */
const GOOD: i32 = 0;
const ENDS_EARLY: i32 = -1;
const TOO_LONG: i32 = -2;
const TOO_SHORT: i32 = -3;
const FAR: i32 = -4;

const MIN_MATCH: usize = 4;
const ALL_ONES: usize = 15;

/** Offset in the block at which the fault was noticed. */
export let faultAt: u32 = 0;

/**
 * Inflates the block of `size` bytes at `input`, which must hold exactly `room` bytes, to `output`. Nothing outside is written
 * but the slack behind the output.
 */
export function decompress(input: usize, size: u32, output: usize, room: u32): i32 {
  const end = input + size;
  const outputEnd = output + room;
  let at = input;
  let to = output;
  while (at < end) {
    const token: usize = load<u8>(at++);
    let run = token >> 4;
    if (run < ALL_ONES) {
      if (run > <usize>(outputEnd - to)) return fault(TOO_LONG, at - input);
      if (run > <usize>(end - at)) return fault(ENDS_EARLY, size);
      v128.store(to, v128.load(at));
    } else {
      let more: usize;
      do {
        if (at == end) return fault(ENDS_EARLY, size);
        more = load<u8>(at++);
        run += more;
        // In here, since a row of 255s could make it wrap.
        if (run > <usize>(outputEnd - to)) return fault(TOO_LONG, at - input);
      } while (more == 255);
      if (run > <usize>(end - at)) return fault(ENDS_EARLY, size);
      memory.copy(to, at, run);
    }
    at += run;
    to += run;
    if (at == end) return to == outputEnd ? GOOD : fault(TOO_SHORT, size);

    if (<usize>(end - at) < 2) return fault(ENDS_EARLY, size);
    const distance: usize = load<u16>(at);
    if (distance == 0 || distance > <usize>(to - output)) return fault(FAR, at - input);
    at += 2;
    let length = token & ALL_ONES;
    if (length == ALL_ONES) {
      let more: usize;
      do {
        if (at == end) return fault(ENDS_EARLY, size);
        more = load<u8>(at++);
        length += more;
        if (length > <usize>(outputEnd - to)) return fault(TOO_LONG, at - input);
      } while (more == 255);
    }
    length += MIN_MATCH;
    if (length > <usize>(outputEnd - to)) return fault(TOO_LONG, at - input);
    copyMatch(to, distance, <u32>length);
    to += length;
  }
  return fault(ENDS_EARLY, size);
}

function fault(status: i32, at: usize): i32 {
  faultAt = <u32>at;
  return status;
}
