import { isAbort, LazypullError, wrapError, type ErrorCode } from '../../core/errors.ts';
import type { Chunk } from '../../core/types.ts';
import type { OpenedLayer } from './opened-layer.ts';

/** What other bytes might put right. */
const WRONG_BYTES: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH']);

/** Places that are asked for one chunk. */
const MAX_TRIES = 4;

/** Who chunks are loaded for. */
export interface LoadDesk {
  /** A chunk as soon as it is there and right; its bytes are the taker's alone. Also those that came along. Others wait for as long as it says. */
  take(chunk: number, bytes: Uint8Array): void | Promise<void>;
  /** A chunk that cannot be had. */
  lost(chunk: number, error: LazypullError): void;
  /** Wrong bytes came for a chunk: it is asked for again. */
  refetch(error: LazypullError, chunk: number): void;
  /** The line has carried so many stored bytes in some milliseconds. */
  fetched(bytes: number, milliseconds: number): void;
}

/**
 * Fetches chunks that lie together by one request, those that another version of the layer has left here excepted, checks and inflates them. Where that brings wrong bytes each chunk is
 * asked for once more by itself, so that one that is wrong for good does not keep back its neighbours; and again as long as there are
 * places that have not been asked. Each chunk that was wanted is taken or lost. Rejects for failures that are not about the bytes: what
 * was taken before is right all the same.
 */
export async function loadChunks(layer: OpenedLayer, wanted: readonly number[], desk: LoadDesk, signal: AbortSignal): Promise<void> {
  const { addresses, loader, devices } = layer;
  const came = new Set<number>();
  const take = (number: number, bytes: Uint8Array): void | Promise<void> => {
    // Neighbours come along once more with one that is asked for again.
    if (came.has(number)) return undefined;
    came.add(number);
    return desk.take(number, bytes);
  };
  const missing: number[] = [];
  for (const number of wanted) {
    const local = await devices[addresses.deviceOf(number)]?.device.readWhole(addresses.startOf(number), (addresses.chunks[number] as Chunk).size);
    if (local) await take(number, local);
    else missing.push(number);
  }
  const taker = { take: (chunk: Chunk, bytes: Uint8Array): void | Promise<void> => take(addresses.numberOf(chunk) as number, bytes), onFetched: desk.fetched };
  const chunks = missing.map((number) => addresses.chunks[number] as Chunk);
  let wrong: LazypullError;
  try {
    if (chunks.length > 0) await loader.pass(chunks, taker, { signal });
    return;
  } catch (error) {
    if (!isWrongBytes(error)) throw error;
    wrong = error;
  }
  for (const [i, chunk] of chunks.entries()) if (!came.has(missing[i] as number)) layer.distrust(chunk);
  for (const [i, chunk] of chunks.entries()) {
    const number = missing[i] as number;
    for (let tries = 1; !came.has(number); tries += 1) {
      desk.refetch(wrong, number);
      try {
        await loader.pass([chunk], taker, { signal });
      } catch (error) {
        if (isAbort(error)) throw error;
        if (isWrongBytes(error) && layer.distrust(chunk) && tries < MAX_TRIES) {
          wrong = error;
          continue;
        }
        desk.lost(number, wrapError(error, 'INTERNAL', 'cannot read a chunk', { offset: chunk.offset }));
        break;
      }
    }
  }
}

function isWrongBytes(error: unknown): error is LazypullError {
  return error instanceof LazypullError && WRONG_BYTES.has(error.code);
}
