// Memory map of the inflate kernel. Every address the kernel touches lies between STATIC_END and MEMORY_END;
// the bounds argument for each region stands beside it.

/** Static data (`memory.data`) lives below; build.mjs checks that it fits. */
export const STATIC_END: usize = 4096;

/** Code lengths of one dynamic header, u8: 286 + 30 read, one 138-fold repeat may be checked only after its code. */
export const LENS: usize = 4096;
/** Symbols in canonical order, u16 x 288. */
export const SORTED: usize = 4608;
/** Symbols per code length and the running offsets, u32 x 16 each. */
export const COUNTS: usize = 5248;
export const OFFSETS: usize = 5312;
/** What each symbol stands for in a table entry, u32 x 288 and u32 x 32. */
export const LITERAL_MEANING: usize = 5376;
export const DISTANCE_MEANING: usize = 6528;
export const PLAIN_MEANING: usize = 6656;
/** Table of the code length code: 7 bits, never deeper. u32 x 128. */
export const CODE_TABLE: usize = 6784;

/**
 * Literal/length table: 2^11 entries, then sub-tables of at most 2^4 entries. Each sub-table holds at least two of the
 * 286 codes, so 2048 + 143 * 16 = 4336 entries bound it. u32.
 */
export const LITERAL_BITS: u32 = 11;
export const LITERAL_TABLE: usize = 8192;
/** Distance table: 2^8 entries, then at most 15 sub-tables of at most 2^7: 256 + 15 * 128 = 2176 entries. u32. */
export const DISTANCE_BITS: u32 = 8;
export const DISTANCE_TABLE: usize = 25600;

/** Block log: (bit position relative to INPUT, byte position relative to OUTPUT), u32 pairs. */
export const LOG: usize = 36864;
export const LOG_ENTRIES: u32 = 4096;

/** Input window, then 2 KiB that are zero when the input ends: look-ahead past the end reads there. */
export const INPUT: usize = 73728;
export const INPUT_SIZE: usize = 1 << 18;
export const INPUT_SLACK: usize = 2048;

/**
 * Output window: 32 KiB of history, room for new bytes, and slack: a step that begins below the limit writes at most
 * one match of 258 bytes plus 31 bytes of rounding up to whole 16 byte stores.
 */
export const OUTPUT: usize = INPUT + INPUT_SIZE + INPUT_SLACK;
export const HISTORY: usize = 32768;
export const OUTPUT_SIZE: usize = HISTORY + (1 << 20);
export const OUTPUT_SLACK: usize = 1024;

/**
 * Match log of what is new in the output window, u32 per match: literals in front of it << 23 | length - 3 << 15 |
 * distance - 1. More literals than fit have an entry of their own in front: LONG_RUN << 23 | literals. A match is 3 bytes
 * or more, and the last one may begin just below the window's end.
 */
export const MATCHES: usize = OUTPUT + OUTPUT_SIZE + OUTPUT_SLACK;
export const MATCHES_SIZE: usize = (OUTPUT_SIZE / 3 + 4) << 2;
export const LONG_RUN: u32 = 511;
export const MEMORY_END: usize = MATCHES + MATCHES_SIZE;
