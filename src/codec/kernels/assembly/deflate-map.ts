// Memory map of the deflate kernel. Every address the kernel touches lies between STATIC_END and MEMORY_END.

/** Static data (`memory.data`) lives below; build.mjs checks that it fits. */
export const STATIC_END: usize = 4096;

/** Symbols of the literal/length code come first in every array of both codes, distances at index 288: 320 in all. */
export const DISTANCES: u32 = 288;
export const SYMBOLS: u32 = 320;

/** For each match length 0..258: symbol, extra bits << 9, extra value << 16. u32 x 259. */
export const LENGTH_INFO: usize = 4096;
/** How often each symbol occurs in the open block, and in the stretch that may yet join it. u32 x 320 each. */
export const BLOCK_COUNTS: usize = 5248;
export const RECENT_COUNTS: usize = 6528;
// 7808 to 11776: huffman-map.ts.
/** Code lengths (u8 x 320) and codes (u32 x 320: reversed code, length << 16) of the block being written. */
export const LENGTHS: usize = 11776;
export const CODES: usize = 12096;
/** The code lengths of a dynamic header in a row (u8 x 320), and as run-length symbols (u16 x 320). */
export const HEADER_LENGTHS: usize = 13376;
export const HEADER_SYMBOLS: usize = 13696;
/** The code length code: counts (u32 x 19), lengths (u8 x 19), codes (u32 x 19). */
export const META_COUNTS: usize = 14336;
export const META_LENGTHS: usize = 14416;
export const META_CODES: usize = 14448;

/** Position of the latest occurrence of each hashed 3 byte sequence, u16. */
export const TRIPLES: usize = 16384;
export const TRIPLE_BITS: u32 = 14;
/**
 * Rows of the match finder, 64 bytes each: hash tags of the 16 latest positions (u8), the positions (u16), 16 bytes
 * unused, so that a row is one cache line.
 */
export const ROWS: usize = 65536;
export const ROW_BITS: u32 = 12;

/**
 * Matches of the open block, two u32 each. They are at least 3 bytes long, or stand for 1024 literals, and a block has at
 * most MAX_BLOCK bytes when another stretch joins: (262144 + 8192) / 3 * 8 < 768 KiB.
 */
export const MATCHES: usize = 327680;
export const MAX_BLOCK: usize = 1 << 18;

/** Input of one run, with what came before it in front: up to 32 KiB. The low 16 bits of an address are its position. */
export const DATA: usize = 1179648;
export const HISTORY: usize = 32768;
export const SEGMENT: usize = 1 << 20;
/** Where data begins in its 64 KiB of positions when the tables are empty; 0 would be the position of an empty slot. */
export const FIRST: usize = 64;

/** Output of one run. No block is larger than its stored form, and blocks but the last hold at least 4 KiB. */
export const OUTPUT: usize = DATA + 65536 + SEGMENT + 65536;

/** Log of known matches, as much as a segment can need: an entry for every 3 bytes, and the heads of pieces. */
export const KNOWN: usize = OUTPUT + SEGMENT + 65536;
export const KNOWN_SIZE: usize = (SEGMENT / 3 + 16384) << 2;
export const MEMORY_END: usize = KNOWN + KNOWN_SIZE;
