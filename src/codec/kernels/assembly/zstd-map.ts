// Memory map of the zstd kernel: tables, the block in the making, then input, log and output. Every address the kernel
// touches lies between STATIC_END and the slack behind the output.
import { HUFFMAN_END } from './huffman-map';

/** Static data (`memory.data`) lives below; build.mjs checks that it fits. */
export const STATIC_END: usize = 4096;

/** Codes of small lengths (u8): of literals below 64, of matches (less 3) below 128. Number of extra bits of each code (u8). */
export const LITERAL_LENGTH_CODES: usize = 4096;
export const MATCH_LENGTH_CODES: usize = 4160;
export const LITERAL_LENGTH_BITS: usize = 4288;
export const MATCH_LENGTH_BITS: usize = 4352;
/** 256 * log2 of 1 to 512, u16. */
export const LOGARITHMS: usize = 4416;

/** How often each byte occurs among the literals: four counters, so that equal bytes in a row need not wait for each other. u32 x 256 x 4. */
export const LITERAL_COUNTS: usize = HUFFMAN_END;
/**
 * Two literal codes, the one that the block before has left and the one in the making: lengths (u8 x 256), then what is
 * written (u64 x 256: code in the top bits, length in the low ones).
 */
export const LITERAL_TABLES: usize = LITERAL_COUNTS + 4096;
export const LITERAL_CODES: usize = 256;
export const LITERAL_TABLE_SIZE: usize = LITERAL_CODES + 2048;
/** Weights of a tree description, u8 x 256, and how often each occurs, u32 x 16. */
export const TREE_WEIGHTS: usize = LITERAL_TABLES + 2 * LITERAL_TABLE_SIZE;
export const TREE_COUNTS: usize = TREE_WEIGHTS + 256;

/**
 * FSE tables: cells of each symbol (i16 x 64), what it does to a state (u64 x 64), the states (u16 x 512), the accuracy
 * (u32). Three for each kind of code in sequences, one for the weights of tree descriptions.
 */
export const FSE_TRANSITIONS: usize = 128;
export const FSE_STATES: usize = FSE_TRANSITIONS + 512;
export const FSE_LOG: usize = FSE_STATES + 1024;
export const FSE_TABLE_SIZE: usize = FSE_LOG + 64;
export const FSE_TABLES: usize = TREE_COUNTS + 64;
export const TREE_TABLE: usize = FSE_TABLES + 9 * FSE_TABLE_SIZE;
/** Symbols in the order of states, u8 x 512. */
export const SPREAD: usize = TREE_TABLE + FSE_TABLE_SIZE;
/** How often each code occurs in the block: literal lengths, offsets, match lengths. u32 x 64 each. */
export const KIND_COUNTS: usize = 256;
export const CODE_COUNTS: usize = SPREAD + 512;
export const CODE_COUNTS_END: usize = CODE_COUNTS + 3 * KIND_COUNTS;

/** Latest position of each hashed sequence of eight and of five bytes, u32. */
export const LONG_BITS: u32 = 17;
export const SHORT_BITS: u32 = 16;
export const LONG_TABLE: usize = 65536;
export const SHORT_TABLE: usize = LONG_TABLE + (4 << LONG_BITS);

/** Content of a block at most (RFC 8878, 3.1.1.2.4). */
export const MAX_BLOCK: usize = 1 << 17;
/** Literals of the block, and room for copies that overshoot. */
export const LITERALS: usize = SHORT_TABLE + (4 << SHORT_BITS);
/** Sequences of the block, each at least 3 bytes: three u32 each. */
export const SEQUENCE_SIZE: usize = 12;
export const SEQUENCES: usize = LITERALS + MAX_BLOCK + 64;
const SEQUENCES_END: usize = SEQUENCES + (MAX_BLOCK / 3 + 1) * SEQUENCE_SIZE;

/** Input begins here; log and output begin where the caller says, at least SLACK behind the input's end. */
export const DATA: usize = (SEQUENCES_END + 65535) & ~65535;
/** Bytes behind the input that comparisons and copies may read, and that are zeroed before. */
export const SLACK: usize = 64;
/** Bytes behind the output that a block may take before it turns out to be better stored as it is: at most 7 for each sequence. */
export const OUTPUT_SLACK: usize = 1 << 19;

/** Most bytes of input: offsets have at most 24 extra bits. What is needed of the memory is grown when needed. */
export const LARGEST: usize = 1 << 24;
export const MEMORY_END: usize = DATA + 65536;
export const MEMORY_LIMIT: usize = DATA + 8 * LARGEST;
