import { corrupt, LazypullError } from '../core/errors.ts';
import { crc32 } from './crc32.ts';
import { parseGzipHeader } from './gzip-header.ts';
import { type BlockStart, Inflater } from './inflate.ts';

/** A gzip member as it begins. */
export interface GzipMember {
  /** Bytes of the gzip stream in front of the member's header. */
  readonly offset: number;
  /** Bytes of the header. */
  readonly headerSize: number;
  /** Inflated bytes in front of the member. */
  readonly out: number;
  /** The header's extra field; lent until the callback returns. */
  readonly extra?: Uint8Array;
}

export interface GunzipOptions {
  /** Inflated bytes allowed in all; one more is LIMIT. */
  readonly maxSize?: number;
  /** Names the data in error messages. */
  readonly what?: string;
  /** Called at the start of every member. */
  readonly onMember?: (member: GzipMember) => void;
  /** Called for every deflate block, in order; positions count from the start of the gzip stream and of all output. */
  readonly onBlock?: (block: GzipBlock) => void;
  /**
   * Called with every byte of the gzip stream once it is consumed, in order: headers, blocks, trailers, padding. A block is
   * reported before the bytes behind its start are. Lent until the callback returns.
   */
  readonly onPacked?: (bytes: Uint8Array) => void;
  /**
   * For one who checks CRCs elsewhere: they are then not checked here. Called at the end of every member that has content,
   * before any output behind it is given out, and at most some thousand times between two pieces of output. `gunzip` gives
   * out all content of the members that it has told of, also when it fails behind them, so that the first fault in the
   * order of the stream can be found.
   */
  readonly onTrailer?: (trailer: GzipTrailer) => void;
}

/** A gzip member as it ends. */
export interface GzipTrailer {
  /** CRC-32 that its content has by its trailer. */
  readonly crc: number;
  /** Bytes of the gzip stream in front of the trailer. */
  readonly offset: number;
  /** Inflated bytes up to the member's end. */
  readonly out: number;
}

/** What is wrong when content has another CRC than its trailer says. */
export function crcMismatch(what: string, offset: number): LazypullError {
  return corrupt(`${what}: content does not match the CRC-32 of its gzip trailer`, { offset });
}

/** A deflate block as it begins. */
export interface GzipBlock extends BlockStart {
  /** It is the first block of its member. */
  readonly first: boolean;
  /** The output in front of the block, also that of earlier members: at most 32 KiB; to be called before the callback returns, lent until then. */
  window(): Uint8Array;
}

/** Longest header accepted. Names and comments have no limit of their own, and it must fit the input window. */
const MAX_HEADER = 3 << 16;

/** Trailers that are told at most before output is given out: members can have a single byte. */
const MANY_TRAILERS = 1024;

/** XFL of a compressor that was told to be fast (RFC 1952, 2.3.1). */
const FASTEST = 4;

/**
 * Whether a member's matches are not worth using again: made in haste, or not at all. Layers begin with a tar header, which
 * no compressor stores that tries.
 */
function isPoor(member: Uint8Array, headerSize: number): boolean {
  return member[8] === FASTEST || ((member[headerSize] ?? 0) & 6) === 0;
}

/**
 * Decoder of gzip streams with any number of members (RFC 1952), without any waiting: bytes are fed, views of the output
 * are stepped through. Small members share one view. CRC (unless `onTrailer` is there) and size of every member are checked;
 * zeros may follow the last.
 */
export class GunzipMachine {
  readonly #options: GunzipOptions;
  readonly #what: string;
  readonly #inflater: Inflater;
  #state: 'header' | 'body' | 'trailer' | 'padding' = 'header';
  #members = 0;
  #ended = false;
  /** CRC of the open member's content so far, unless it is checked elsewhere, and where that content began. */
  #crc = 0;
  #start = 0;
  /** Trailers told since output was given out, and the output in front of the last of them. */
  #told = 0;
  #toldOut = 0;

  constructor(options: GunzipOptions = {}) {
    this.#options = options;
    this.#what = options.what ?? 'gzip stream';
    this.#inflater = new Inflater(this.#what);
  }

  /** Copies in as much of `bytes` as there is room for and returns how much that was. */
  feed(bytes: Uint8Array): number {
    return this.#inflater.push(bytes);
  }

  /** Declares that nothing follows what was fed. */
  end(): void {
    this.#ended = true;
    this.#inflater.end();
  }

  /** The next piece of output, lent until the next call; undefined when more input is needed or, after `end`, at the end. */
  step(): Uint8Array | undefined {
    for (;;) {
      let more: boolean;
      if (this.#state === 'header') more = this.#header();
      else if (this.#state === 'body') {
        if (this.#body()) return this.#take();
        more = this.#state !== 'body';
      } else if (this.#state === 'trailer') {
        more = this.#trailer();
        if (this.#told >= MANY_TRAILERS) return this.#take();
      } else more = this.#padding();
      if (!more) return this.#ended && this.#inflater.pending > 0 ? this.#take() : undefined;
    }
  }

  /** After a failure: what `step` would still have given out of the members that `onTrailer` heard of. */
  told(): Uint8Array | undefined {
    const { produced, pending } = this.#inflater;
    const size = this.#toldOut - (produced - pending);
    return size > 0 ? this.#inflater.take(size) : undefined;
  }

  close(): void {
    this.#inflater.close();
  }

  #take(): Uint8Array {
    this.#told = 0;
    return this.#inflater.take();
  }

  #header(): boolean {
    const inflater = this.#inflater;
    const unread = inflater.unread();
    const offset = inflater.position;
    if (this.#members > 0) {
      if (unread.length === 0) return false;
      if (unread[0] === 0) {
        this.#state = 'padding';
        return true;
      }
    }
    const header = parseGzipHeader(unread, this.#what, offset);
    if (!header) {
      if (this.#ended) throw corrupt(`${this.#what}: the gzip header ends early`, { offset: offset + unread.length });
      if (unread.length > MAX_HEADER) throw corrupt(`${this.#what}: gzip header of more than ${MAX_HEADER} bytes`, { offset });
      return false;
    }
    if (this.#members === 0) {
      // The first block's header shows whether anything was looked for.
      if (unread.length === header.size && !this.#ended) return false;
      if (isPoor(unread, header.size)) inflater.ignoreMatches();
    }
    const out = inflater.produced;
    this.#options.onMember?.({ offset, headerSize: header.size, out, ...(header.extra && { extra: header.extra }) });
    this.#skip(header.size);
    const { onBlock } = this.#options;
    let first = true;
    const report = onBlock && ((block: BlockStart): void => {
      onBlock({ ...block, first, window: () => inflater.before(block.out) });
      first = false;
    });
    inflater.begin(report);
    this.#members += 1;
    this.#crc = 0;
    this.#start = out;
    this.#state = 'body';
    return true;
  }

  /** Decodes; true when the output window is full. */
  #body(): boolean {
    const inflater = this.#inflater;
    const before = inflater.produced;
    const from = inflater.position;
    const status = inflater.decode();
    this.#options.onPacked?.(inflater.consumed(inflater.position - from));
    const size = inflater.produced - before;
    if (size > 0 && !this.#options.onTrailer) this.#crc = crc32(inflater.recent(size), this.#crc);
    const { maxSize } = this.#options;
    if (maxSize !== undefined && inflater.produced > maxSize) throw new LazypullError('LIMIT', `${this.#what} inflates to more than the ${maxSize} bytes allowed`, { offset: maxSize });
    if (status === 'done') this.#state = 'trailer';
    return status === 'output';
  }

  #trailer(): boolean {
    const inflater = this.#inflater;
    const unread = inflater.unread();
    const offset = inflater.position;
    if (unread.length < 8) {
      if (this.#ended) throw corrupt(`${this.#what}: the gzip trailer ends early`, { offset: offset + unread.length });
      return false;
    }
    const view = new DataView(unread.buffer, unread.byteOffset, 8);
    const crc = view.getUint32(0, true);
    const out = inflater.produced;
    const size = out - this.#start;
    const { onTrailer } = this.#options;
    if (onTrailer && size > 0) {
      onTrailer({ crc, offset, out });
      this.#told += 1;
      this.#toldOut = out;
    } else if (crc !== this.#crc) throw crcMismatch(this.#what, offset);
    if (view.getUint32(4, true) !== size % 0x1_0000_0000) throw corrupt(`${this.#what}: content of ${size} bytes does not match the size in its gzip trailer`, { offset: offset + 4 });
    this.#skip(8);
    this.#state = 'header';
    return true;
  }

  /** Zeros behind the last member: what tape and block devices leave. */
  #padding(): boolean {
    const unread = this.#inflater.unread();
    const other = unread.findIndex((byte) => byte !== 0);
    if (other >= 0) throw corrupt(`${this.#what}: garbage after the last gzip member`, { offset: this.#inflater.position + other });
    this.#skip(unread.length);
    return false;
  }

  #skip(count: number): void {
    this.#inflater.skip(count);
    this.#options.onPacked?.(this.#inflater.consumed(count));
  }
}
