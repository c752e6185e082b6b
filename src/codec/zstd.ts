import { corrupt, LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteStream } from '../core/types.ts';
import { bestDecoder, type FramePiece, library } from './zstd-decode.ts';
import { MAX_BLOCK, ZstdFrames } from './zstd-frames.ts';
import { framewise, type ZstdFrame } from './zstd-framewise.ts';

export interface UnzstdOptions {
  /** Bytes of content allowed in all; one more is LIMIT. */
  readonly maxSize?: number;
  /** Names the data in error messages. */
  readonly what?: string;
  readonly signal?: AbortSignal;
  /** Called for every frame before its content comes; skippable ones are not told. */
  readonly onFrame?: ((frame: ZstdFrame) => void) | undefined;
}

/** Blocks handed to a decoder at once: some decoders put out everything a piece of input holds before they pause. */
const BLOCKS_AT_ONCE = 8;
const MAGIC = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd);

/**
 * Inflates a zstd stream of any number of frames (RFC 8878), skippable ones passed over. Truncated or broken input is
 * CORRUPT with its offset, more than `maxSize` bytes or a window above 128 MiB is LIMIT. Yields lent views.
 */
export async function* unzstd(stream: ByteStream, options: UnzstdOptions = {}): AsyncGenerator<Uint8Array> {
  const { maxSize = Infinity, what = 'zstd stream', signal, onFrame } = options;
  const frames = new ZstdFrames(what);
  let size = 0;
  try {
    const best = await bestDecoder();
    const inflate = onFrame ? framewise(best, onFrame) : best;
    for await (const bytes of inflate(framePieces(stream, frames, signal))) {
      size += bytes.length;
      if (size > maxSize) throw new LazypullError('LIMIT', `${what} inflates to more than the ${maxSize} bytes allowed`, { offset: maxSize });
      yield bytes;
    }
  } catch (error) {
    throw wrapError(error, 'CORRUPT', `${what}: invalid zstd data`, { offset: frames.position });
  }
}

/** Compresses into one frame; the WebAssembly build gives the same bytes on every machine. Level 1..22. */
export async function zstdCompress(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  const { compress } = await import('@cloudpss/zstd/wasm');
  return compress(bytes, level);
}

/** Inflates zstd data in memory; more than `limit` bytes is LIMIT. */
export async function zstdDecompress(bytes: Uint8Array, limit: number, what = 'zstd data'): Promise<Uint8Array> {
  const frames = new ZstdFrames(what);
  for (let at = 0; at < bytes.length;) at += frames.advance(bytes.subarray(at));
  frames.end();
  const size = frames.contentSize;
  if (size !== undefined && size > limit) throw new LazypullError('LIMIT', `${what} inflates to ${size} bytes, ${limit} are allowed`);
  // Decoders reserve what a frame says it holds, so it must at least be possible.
  if (size !== undefined && size > frames.blocks * MAX_BLOCK) throw corrupt(`${what}: zstd frames claim ${size} bytes, more than their blocks can hold`);
  if (size === undefined || frames.frames !== 1 || frames.skipped > 0) return collect(unzstd(streamOf(bytes), { maxSize: limit, what }), limit, what);
  try {
    const whole = (await library()).decompress(bytes);
    if (whole.length !== size) throw corrupt(`${what}: ${whole.length} bytes where the zstd frame promises ${size}`);
    return whole;
  } catch (error) {
    throw wrapError(error, 'CORRUPT', `${what}: invalid zstd data`);
  }
}

/** The stream's frames cut into pieces, without what lies between them; the stream's end is checked. */
export async function* framePieces(stream: ByteStream, frames: ZstdFrames, signal: AbortSignal | undefined): AsyncGenerator<FramePiece> {
  /** Of the open frame, until a piece of it has told. */
  let offset: number | undefined;
  const piece = (bytes: Uint8Array, endsFrame: boolean): FramePiece => {
    const made = { bytes, endsFrame, ...(offset !== undefined && { offset }) };
    offset = undefined;
    return made;
  };
  for await (const bytes of stream) {
    throwIfAborted(signal);
    let from = 0;
    let { blocks } = frames;
    for (let at = 0; at < bytes.length;) {
      const before = frames.inside;
      at += frames.advance(bytes.subarray(at));
      const now = frames.inside;
      if (before !== 'frame') {
        if (now !== 'frame') continue;
        offset = frames.position - MAGIC.length;
        from = at - MAGIC.length;
        ({ blocks } = frames);
        if (from >= 0) continue;
        // The magic number began in an earlier element, which is gone.
        yield piece(MAGIC, false);
        from = at;
      } else if (now !== 'frame' || frames.blocks - blocks >= BLOCKS_AT_ONCE) {
        yield piece(bytes.subarray(from, at), now !== 'frame');
        from = at;
        ({ blocks } = frames);
      }
    }
    if (frames.inside === 'frame' && from < bytes.length) yield piece(bytes.subarray(from), false);
  }
  frames.end();
}
