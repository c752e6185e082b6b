// Memory map of the LZ4 kernel: a hash table, then input and output, each followed by room for copies that overshoot.

/** Static data (`memory.data`) lives below; build.mjs checks that it fits. */
export const STATIC_END: usize = 4096;

/** Latest position of each hashed sequence, u32. */
export const TABLE: usize = 4096;
export const TABLE_BITS: u32 = 13;

/** Input begins here; log and output begin where the caller says, at least SLACK behind the input's end. */
export const DATA: usize = TABLE + (4 << TABLE_BITS);
/** Bytes behind input and output that copies may read or write beyond their end. */
export const SLACK: usize = 64;

/** Most bytes a block may hold. What is needed of the memory is grown when needed. */
export const LARGEST: usize = 1 << 27;
export const MEMORY_END: usize = DATA + 2 * 65536;
/** Input, output, and a log that may be twice as large as the input. */
export const MEMORY_LIMIT: usize = DATA + 4 * LARGEST + LARGEST / 255 + 65536;
