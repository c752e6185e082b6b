import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { concat } from '../core/bytes.ts';
import { corrupt, LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import { collect, streamOf } from '../core/stream.ts';
import type { ByteStream } from '../core/types.ts';
import { MAX_BLOCK, ZstdFrames } from './zstd-frames.ts';

export interface UnzstdOptions {
  /** Bytes of content allowed in all; one more is LIMIT. */
  readonly maxSize?: number;
  /** Names the data in error messages. */
  readonly what?: string;
  readonly signal?: AbortSignal;
}

/** Blocks handed to a decoder at once: some decoders put out everything a piece of input holds before they pause. */
const BLOCKS_AT_ONCE = 8;
/** Without a streaming decoder a frame must be decoded whole. */
const MAX_WHOLE_FRAME = 256 << 20;

/** What node:zlib has from Node 22.15 on; the types in use are older. */
interface NodeZstd {
  createZstdDecompress?(options: { chunkSize: number }): Transform;
  zstdDecompressSync?(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
}
const node = zlib as unknown as NodeZstd;

/**
 * Inflates a zstd stream of any number of frames (RFC 8878), skippable ones passed over. Truncated or broken input is
 * CORRUPT with its offset, more than `maxSize` bytes or a window above 128 MiB is LIMIT. Yields lent views.
 */
export async function* unzstd(stream: ByteStream, options: UnzstdOptions = {}): AsyncGenerator<Uint8Array> {
  const { maxSize = Infinity, what = 'zstd stream', signal } = options;
  const frames = new ZstdFrames(what);
  const pieces = boundedPieces(stream, frames, signal);
  let size = 0;
  try {
    for await (const bytes of await decode(pieces)) {
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
  if (size === undefined || frames.frames !== 1) return collect(unzstd(streamOf(bytes), { maxSize: limit, what }), limit, what);
  try {
    const whole = node.zstdDecompressSync ? node.zstdDecompressSync(bytes, { maxOutputLength: Math.max(size, 1) }) : (await library()).decompress(bytes);
    if (whole.length !== size) throw corrupt(`${what}: ${whole.length} bytes where the zstd frame promises ${size}`);
    return whole;
  } catch (error) {
    throw wrapError(error, 'CORRUPT', `${what}: invalid zstd data`);
  }
}

/** The stream cut so that no piece holds more than a few blocks; its end is checked. */
async function* boundedPieces(stream: ByteStream, frames: ZstdFrames, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const bytes of stream) {
    throwIfAborted(signal);
    let from = 0;
    let blocks = frames.blocks;
    for (let at = 0; at < bytes.length;) {
      at += frames.advance(bytes.subarray(at));
      if (frames.blocks - blocks < BLOCKS_AT_ONCE && at < bytes.length) continue;
      yield bytes.subarray(from, at);
      from = at;
      blocks = frames.blocks;
    }
  }
  frames.end();
}

async function decode(pieces: ByteStream): Promise<ByteStream> {
  if (node.createZstdDecompress) return through(pieces, node.createZstdDecompress({ chunkSize: 1 << 18 }));
  const { Decompressor, decompress } = await library();
  return Decompressor ? through(pieces, new Decompressor()) : wholeFrames(pieces, decompress);
}

interface ZstdLibrary {
  readonly Decompressor?: new () => Transform;
  decompress(bytes: Uint8Array): Uint8Array;
}

/** The native build where there is one for this platform, the WebAssembly build elsewhere. */
async function library(): Promise<ZstdLibrary> {
  try {
    return await import('@cloudpss/zstd/napi');
  } catch {
    return await import('@cloudpss/zstd/wasm');
  }
}

/** Runs bytes through a Node stream. Each piece is let go of only when the stream has used it up. */
async function* through(pieces: ByteStream, transform: Transform): AsyncGenerator<Uint8Array> {
  // A destroyed stream forgets about the write that is under way.
  let wake: (() => void) | undefined;
  transform.once('close', () => wake?.());
  const feed = async (): Promise<void> => {
    for await (const piece of pieces) {
      if (transform.destroyed) return;
      await new Promise<void>((resolve, reject) => {
        wake = resolve;
        transform.write(piece, (error) => (error ? reject(error) : resolve()));
      });
    }
    transform.end();
  };
  const feeding = feed().catch((error: unknown) => {
    transform.destroy(error as Error);
  });
  try {
    yield* transform as AsyncIterable<Uint8Array>;
  } finally {
    transform.destroy();
    await feeding;
  }
}

async function* wholeFrames(pieces: ByteStream, decompress: (bytes: Uint8Array) => Uint8Array): AsyncGenerator<Uint8Array> {
  yield decompress(concat([await collect(pieces, MAX_WHOLE_FRAME, 'zstd frame')]));
}
