import { isAbort, LazypullError, wrapError, type ErrorCode } from '../../core/errors.ts';
import type { Chunk } from '../../core/types.ts';
import type { OpenedLayer } from './opened-layer.ts';

/** What other bytes might put right. */
const WRONG_BYTES: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH']);

/** Places that are asked for one chunk. */
const MAX_TRIES = 4;

/**
 * Fetches chunks that lie together by one request, those that another version of the layer has left here excepted, checks and inflates them. Where that brings wrong bytes each chunk is
 * asked for once more by itself, so that one that is wrong for good does not keep back its neighbours; and again as long as there are
 * places that have not been asked. Chunks that came along and are right are among the result, too. Rejects for failures that are not
 * about the bytes.
 */
export async function loadChunks(layer: OpenedLayer, wanted: readonly number[], onRefetch: (error: LazypullError, chunk: number) => void, signal: AbortSignal): Promise<Map<number, Uint8Array | LazypullError>> {
  const { addresses, loader, devices } = layer;
  const found = new Map<number, Uint8Array | LazypullError>();
  const missing: number[] = [];
  for (const number of wanted) {
    const local = await devices[addresses.deviceOf(number)]?.device.readWhole(addresses.startOf(number), (addresses.chunks[number] as Chunk).size);
    if (local) found.set(number, local);
    else missing.push(number);
  }
  const chunks = missing.map((number) => addresses.chunks[number] as Chunk);
  const add = (loaded: ReadonlyMap<Chunk, Uint8Array>): void => {
    for (const [chunk, bytes] of loaded) found.set(addresses.numberOf(chunk) as number, bytes);
  };
  let wrong: LazypullError;
  try {
    if (chunks.length > 0) add(await loader.load(chunks, { signal }));
    return found;
  } catch (error) {
    if (!isWrongBytes(error)) throw error;
    wrong = error;
  }
  for (const chunk of chunks) layer.distrust(chunk);
  for (const [i, chunk] of chunks.entries()) {
    const number = missing[i] as number;
    for (let tries = 1; !found.has(number); tries += 1) {
      onRefetch(wrong, number);
      try {
        add(await loader.load([chunk], { signal }));
      } catch (error) {
        if (isAbort(error)) throw error;
        if (isWrongBytes(error) && layer.distrust(chunk) && tries < MAX_TRIES) wrong = error;
        else found.set(number, wrapError(error, 'INTERNAL', 'cannot read a chunk', { offset: chunk.offset }));
      }
    }
  }
  return found;
}

function isWrongBytes(error: unknown): error is LazypullError {
  return error instanceof LazypullError && WRONG_BYTES.has(error.code);
}
