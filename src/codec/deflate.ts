import { constants, deflateRawSync } from 'node:zlib';

export const DEFAULT_LEVEL = 6;

/** Compresses; the result is lent until the next call. Not `final`: other blocks can follow, on a byte boundary. */
export function deflateRaw(input: Uint8Array, level: number = DEFAULT_LEVEL, final = true): Uint8Array {
  return deflateRawSync(input, { level, finishFlush: final ? constants.Z_FINISH : constants.Z_SYNC_FLUSH });
}
