import { readU64LE } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';

/** Largest window accepted, bytes: what the reference decoder accepts by default. */
export const MAX_WINDOW = 128 << 20;
/** No block holds more content than this (RFC 8878, 3.1.1.2.4). */
export const MAX_BLOCK = 128 << 10;

const MAGIC = 0xfd2f_b528;
const SKIPPABLE = 0x184d_2a50;

type State = 'magic' | 'header' | 'skip-size' | 'skip' | 'block' | 'body' | 'checksum';

/**
 * Follows the frame and block headers of a zstd stream (RFC 8878, 3.1) without decoding it. Decoders do not report
 * truncation, so this does; it also bounds what a piece of input can grow to before a decoder is let loose on it.
 */
export class ZstdFrames {
  /** Bytes seen. */
  position = 0;
  /** Frames complete, skippable ones not counted. */
  frames = 0;
  /** Skippable frames complete. */
  skipped = 0;
  /** Blocks that have begun. */
  blocks = 0;
  /** Content size of all frames so far, as far as every frame states it. */
  contentSize: number | undefined = 0;
  readonly #what: string;
  readonly #held = new Uint8Array(18);
  #heldSize = 0;
  #state: State = 'magic';
  /** Bytes still to pass over in 'skip' and 'body'. */
  #left = 0;
  #lastBlock = false;
  #checksum = false;

  constructor(what: string) {
    this.#what = what;
  }

  /** Where the next byte belongs; a frame begins with its magic number, which is only known once it is complete. */
  get inside(): 'nothing' | 'frame' | 'skippable' {
    if (this.#state === 'magic') return 'nothing';
    return this.#state === 'skip-size' || this.#state === 'skip' ? 'skippable' : 'frame';
  }

  /**
   * Follows `bytes` up to the next event and returns how many bytes that took: the end of a magic number, of a block or of
   * a frame. Without an event it takes them all.
   */
  advance(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'skip' || this.#state === 'body') {
        const n = Math.min(this.#left, bytes.length - at);
        at += n;
        this.#left -= n;
        this.position += n;
        if (this.#left > 0) break;
        if (this.#state === 'skip') this.#endSkippable();
        else this.#endBlock();
        break;
      }
      this.#held[this.#heldSize++] = bytes[at++] as number;
      this.position += 1;
      if (this.#heldSize < this.#needed()) continue;
      const before = this.inside;
      this.#parse();
      if (this.inside !== before) break;
    }
    return at;
  }

  /** Declares the end: a stream that stops inside a frame is CORRUPT. */
  end(): void {
    if (this.#state !== 'magic' || this.#heldSize > 0 || this.position === 0) throw corrupt(`${this.#what}: the zstd data ends early`, { offset: this.position });
  }

  /** Bytes of the present header that must be at hand to go on; grows as the header tells more about itself. */
  #needed(): number {
    if (this.#state === 'block') return 3;
    if (this.#state !== 'header') return 4;
    if (this.#heldSize === 0) return 1;
    const descriptor = this.#held[0] as number;
    const single = (descriptor & 0x20) !== 0;
    return 1 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] as number) + contentSizeBytes(descriptor);
  }

  #parse(): void {
    const view = new DataView(this.#held.buffer, 0, 18);
    const size = this.#heldSize;
    this.#heldSize = 0;
    switch (this.#state) {
      case 'magic': {
        const magic = view.getUint32(0, true);
        if (magic === MAGIC) this.#state = 'header';
        else if ((magic & 0xffff_fff0) === SKIPPABLE) this.#state = 'skip-size';
        else throw corrupt(`${this.#what}: no zstd frame where one should begin`, { offset: this.position - 4 });
        break;
      }
      case 'skip-size':
        this.#left = view.getUint32(0, true);
        if (this.#left > 0) this.#state = 'skip';
        else this.#endSkippable();
        break;
      case 'header':
        this.#frameHeader(size);
        break;
      case 'block': {
        const header = view.getUint16(0, true) + view.getUint8(2) * 0x1_0000;
        const length = header >>> 3;
        const kind = (header >> 1) & 3;
        if (kind === 3 || length > MAX_BLOCK) throw corrupt(`${this.#what}: invalid zstd block header`, { offset: this.position - 3 });
        this.blocks += 1;
        this.#lastBlock = (header & 1) !== 0;
        // A run length block stores one byte however long it is (RFC 8878, 3.1.1.2.2).
        this.#left = kind === 1 ? 1 : length;
        if (this.#left > 0) this.#state = 'body';
        else this.#endBlock();
        break;
      }
      case 'checksum':
        this.#endFrame();
        break;
    }
  }

  #frameHeader(size: number): void {
    const descriptor = this.#held[0] as number;
    if (descriptor & 0x08) throw corrupt(`${this.#what}: reserved bit set in the zstd frame header`, { offset: this.position - size });
    const single = (descriptor & 0x20) !== 0;
    const dictionary = [0, 1, 2, 4][descriptor & 3] as number;
    const at = 1 + (single ? 0 : 1) + dictionary;
    if (this.#held.subarray(at - dictionary, at).some((byte) => byte !== 0)) throw new LazypullError('UNSUPPORTED', `${this.#what}: zstd frame needs a dictionary`, { offset: this.position - size });
    const content = this.#contentSize(descriptor, at);
    let window = content ?? 0;
    if (!single) {
      const byte = this.#held[1] as number;
      window = 2 ** (10 + (byte >> 3)) * (1 + (byte & 7) / 8);
    }
    if (window > MAX_WINDOW) {
      throw new LazypullError('LIMIT', `${this.#what}: zstd window of ${window} bytes is above the ${MAX_WINDOW} allowed`, { offset: this.position - size });
    }
    this.contentSize = content === undefined || this.contentSize === undefined ? undefined : this.contentSize + content;
    this.#checksum = (descriptor & 0x04) !== 0;
    this.#state = 'block';
  }

  #contentSize(descriptor: number, at: number): number | undefined {
    const view = new DataView(this.#held.buffer, 0, 18);
    switch (contentSizeBytes(descriptor)) {
      case 0: return undefined;
      case 1: return view.getUint8(at);
      case 2: return view.getUint16(at, true) + 256;
      case 4: return view.getUint32(at, true);
      default: return readU64LE(this.#held, at, `${this.#what}: zstd content size`);
    }
  }

  #endBlock(): void {
    if (!this.#lastBlock) this.#state = 'block';
    else if (this.#checksum) this.#state = 'checksum';
    else this.#endFrame();
  }

  #endSkippable(): void {
    this.skipped += 1;
    this.#state = 'magic';
  }

  #endFrame(): void {
    this.frames += 1;
    this.#state = 'magic';
  }
}

function contentSizeBytes(descriptor: number): number {
  const flag = descriptor >> 6;
  return flag === 0 ? (descriptor & 0x20 ? 1 : 0) : 1 << flag;
}
