// Workspace for making Huffman codes, at the same addresses in every kernel that makes any.

/** Sorted symbols, node weights and later depths (u32 x 288); parents (u16 x 288); counters. */
export const SORTED: usize = 7808;
export const WEIGHTS: usize = 8960;
export const LEAF_PARENTS: usize = 10112;
export const NODE_PARENTS: usize = 10688;
export const BUCKETS: usize = 11264;
export const HUFFMAN_END: usize = 11776;
