import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { collect } from '../core/stream.ts';
import type { ByteStream } from '../core/types.ts';

/** A part of a frame: a few blocks at most. */
export interface FramePiece {
  readonly bytes: Uint8Array;
  readonly endsFrame: boolean;
  /** Of a frame's first piece: bytes of the stream in front of the frame. */
  readonly offset?: number;
}

/** Turns frames into their content; closes `pieces` whatever happens. */
export type FrameDecoder = (pieces: AsyncGenerator<FramePiece>) => AsyncGenerator<Uint8Array>;

/** Where no streaming decoder is to be had, a frame must be decoded whole: packed bytes allowed then. */
const MAX_WHOLE_FRAME = 256 << 20;

/** What node:zlib has from Node 22.15 on; the types in use are older. */
interface NodeZstd {
  createZstdDecompress?(options: { chunkSize: number }): Transform;
}

interface ZstdLibrary {
  readonly Decompressor?: new () => Transform;
  decompress(bytes: Uint8Array): Uint8Array;
}

/** The native build where there is one for this platform, the WebAssembly build elsewhere. */
export async function library(): Promise<ZstdLibrary> {
  try {
    return await import('@cloudpss/zstd/napi');
  } catch {
    return await import('@cloudpss/zstd/wasm');
  }
}

/** The best decoder there is: native, then node:zlib, then WebAssembly. */
export async function bestDecoder(): Promise<FrameDecoder> {
  const { Decompressor, decompress } = await library();
  if (Decompressor) return nativeDecoder(Decompressor);
  return nodeDecoder() ?? wholeDecoder(decompress);
}

/** Takes many frames in one go, and is the fastest. */
export function nativeDecoder(Decompressor: new () => Transform): FrameDecoder {
  return (pieces) => through(bytesOf(pieces), new Decompressor());
}

/** The decoder of node:zlib ends silently behind the first frame, so each frame gets one of its own. */
export function nodeDecoder(): FrameDecoder | undefined {
  const { createZstdDecompress } = zlib as unknown as NodeZstd;
  return createZstdDecompress && ((pieces) => framewise(pieces, (frame) => through(frame, createZstdDecompress({ chunkSize: 1 << 18 }))));
}

export function wholeDecoder(decompress: (bytes: Uint8Array) => Uint8Array): FrameDecoder {
  return (pieces) => framewise(pieces, async function* (frame) {
    yield decompress(await collect(frame, MAX_WHOLE_FRAME, 'zstd frame'));
  });
}

async function* framewise(pieces: AsyncGenerator<FramePiece>, inflate: (frame: ByteStream) => AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    for (let first = await pieces.next(); !first.done; first = await pieces.next()) yield* inflate(bytesOf(oneFrame(first.value, pieces)));
  } finally {
    await pieces.return(undefined);
  }
}

async function* oneFrame(first: FramePiece, pieces: AsyncGenerator<FramePiece>): AsyncGenerator<FramePiece> {
  for (let piece = first; ;) {
    yield piece;
    if (piece.endsFrame) return;
    const next = await pieces.next();
    if (next.done) return;
    piece = next.value;
  }
}

async function* bytesOf(pieces: AsyncIterable<FramePiece>): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of pieces) yield bytes;
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
