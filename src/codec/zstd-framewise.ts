import { concat } from '../core/bytes.ts';
import { library, type FrameDecoder, type FramePiece } from './zstd-decode.ts';
import { MAX_BLOCK, ZstdFrames } from './zstd-frames.ts';

/** Frames of up to so many stored bytes are decoded in one go: a stream for each would take longer than the frame. */
const SMALL = 1 << 20;
/** And so many bytes of content. */
const SMALL_CONTENT = 8 << 20;

/** A zstd frame as it begins: everything in it can be decoded without what comes before. */
export interface ZstdFrame {
  /** Bytes of the stream in front of its magic number. */
  readonly offset: number;
  /** Bytes of content in front of it. */
  readonly out: number;
}

/**
 * Decodes one frame after the other, and tells of each before its content comes. That is slower than handing all frames to a
 * decoder at once, which does not say where one ends.
 */
export function framewise(inflate: FrameDecoder, onFrame: (frame: ZstdFrame) => void): FrameDecoder {
  return async function* (pieces) {
    let out = 0;
    try {
      for (let next = await pieces.next(); !next.done; next = await pieces.next()) {
        onFrame({ offset: next.value.offset as number, out });
        for await (const bytes of decodeFrame(next.value, pieces, inflate)) {
          out += bytes.length;
          yield bytes;
        }
      }
    } finally {
      await pieces.return(undefined);
    }
  };
}

async function* decodeFrame(first: FramePiece, pieces: AsyncGenerator<FramePiece>, inflate: FrameDecoder): AsyncGenerator<Uint8Array> {
  const held: FramePiece[] = [];
  let size = 0;
  let ended = false;
  for (let piece = first; ; ) {
    // Pieces are lent until the next one is asked for.
    held.push(piece.endsFrame ? piece : { ...piece, bytes: new Uint8Array(piece.bytes) });
    size += piece.bytes.length;
    ended = piece.endsFrame;
    if (ended || size > SMALL) break;
    const next = await pieces.next();
    if (next.done) break;
    piece = next.value;
  }
  const whole = ended ? await inOneGo(concat(held.map(({ bytes }) => bytes))) : undefined;
  if (whole) yield whole;
  else yield* inflate(restOf(held, ended, pieces));
}

/** A frame's content; undefined where that is not known to be little. */
async function inOneGo(frame: Uint8Array): Promise<Uint8Array | undefined> {
  const facts = new ZstdFrames('zstd frame');
  for (let at = 0; at < frame.length; ) at += facts.advance(frame.subarray(at));
  const { contentSize, blocks } = facts;
  // Decoders reserve what a frame says it holds, so it must at least be possible.
  if (contentSize === undefined || contentSize > Math.min(SMALL_CONTENT, blocks * MAX_BLOCK)) return undefined;
  const bytes = (await library()).decompress(frame);
  return bytes.length === contentSize ? bytes : undefined;
}

async function* restOf(held: readonly FramePiece[], ended: boolean, pieces: AsyncGenerator<FramePiece>): AsyncGenerator<FramePiece> {
  yield* held;
  for (let done = ended; !done; ) {
    const next = await pieces.next();
    if (next.done) return;
    yield next.value;
    done = next.value.endsFrame;
  }
}
