// What a run of the inflate kernel ends with. Negative values are errors, in words in ../../inflate.ts.
export const DONE: i32 = 0;
export const NEED_INPUT: i32 = 1;
export const OUTPUT_FULL: i32 = 2;
export const LOG_FULL: i32 = 3;
export const TRUNCATED: i32 = -1;
export const BAD_BLOCK_TYPE: i32 = -2;
export const BAD_STORED_LENGTH: i32 = -3;
export const TOO_MANY_SYMBOLS: i32 = -4;
export const BAD_CODE_LENGTHS: i32 = -5;
export const BAD_REPEAT: i32 = -6;
export const NO_END_OF_BLOCK: i32 = -7;
export const BAD_LITERAL_CODE: i32 = -8;
export const BAD_DISTANCE_CODE: i32 = -9;
export const BAD_SYMBOL: i32 = -10;
export const BAD_DISTANCE: i32 = -11;
export const TOO_FAR_BACK: i32 = -12;
/** Not an end: the run goes on. */
export const CONTINUE: i32 = 99;
