import { LazypullError, wrapError } from '../core/errors.ts';
import { ByteReader } from '../core/stream.ts';
import type { ByteStream } from '../core/types.ts';
import type { TarEntry } from './entry.ts';
import { HeaderBuffer } from './header-buffer.ts';
import { HeaderDecoder, type Decoded, type Extension } from './header.ts';
import { checksumOf, decodeNumber, decodeTextRange, FIELD, paddingOf, signedChecksumOf, sumWords, TAR_BLOCK } from './layout.ts';
import { checkPax, decodePax, type PaxAttributes } from './pax.ts';
import { Payload } from './payload.ts';
import { Place } from './place.ts';
import { readSparse } from './sparse.ts';

export interface TarReaderOptions {
  /** What is being read, for messages: `layer sha256:…`. */
  readonly what?: string;
  /** Most bytes of pax headers, long names and sparse maps that one entry may have (LIMIT above); default 8 MiB. */
  readonly maxHeaderSize?: number;
  /** Most bytes the archive may have, holes of sparse files counted as if they were stored (LIMIT above); default unlimited. */
  readonly maxSize?: number;
}

const MAX_HEADER_SIZE = 8 * 1024 * 1024;

/**
 * Reads an archive entry by entry: v7, ustar, pax, GNU and star headers. The format is told per header; README.md says
 * what is accepted and refused. Errors name the archive, the entry's path and the stream offset, and are final: after one, `next` repeats it.
 */
export class TarReader {
  readonly #reader: ByteReader;
  readonly #place: Place;
  readonly #decoder: HeaderDecoder;
  readonly #payload: Payload;
  readonly #buffer = new HeaderBuffer();
  readonly #maxHeaderSize: number;
  readonly #maxSize: number;
  /** Bytes of the current entry's records so far. */
  #records = 0;
  /** Bytes of all holes so far. */
  #holes = 0;
  #ended = false;
  #busy = false;
  #failure: LazypullError | undefined;

  constructor(stream: ByteStream, options: TarReaderOptions = {}) {
    this.#reader = new ByteReader(stream);
    this.#place = new Place(options.what ?? 'tar archive');
    this.#decoder = new HeaderDecoder(this.#place);
    this.#payload = new Payload(this.#reader, this.#place);
    this.#maxHeaderSize = options.maxHeaderSize ?? MAX_HEADER_SIZE;
    this.#maxSize = options.maxSize ?? Number.POSITIVE_INFINITY;
  }

  /** Stream offset of the next byte that will be taken. */
  get position(): number {
    return this.#reader.position;
  }

  /**
   * The next entry, after passing over what is left of the one before; `undefined` at the end of the archive: two zero
   * blocks, or the end of the stream between entries, with or without one zero block.
   */
  async next(): Promise<TarEntry | undefined> {
    if (this.#failure) throw this.#failure;
    if (this.#busy) throw new LazypullError('INTERNAL', `${this.#place.what}: next() is called again before it has resolved`);
    if (this.#ended) return undefined;
    this.#busy = true;
    try {
      const unread = this.#payload.finish();
      if (unread) await unread;
      const place = this.#place;
      place.path = '';
      place.offset = this.#reader.position;
      const extension: Open = { pax: undefined, longName: undefined, longLink: undefined };
      this.#records = 0;
      const offset = place.offset;
      for (;;) {
        if (!this.#takeRecord(TAR_BLOCK) && !(await this.#pullBlock())) return this.#end(extension);
        const base = this.#buffer.end - TAR_BLOCK;
        const sum = sumWords(this.#buffer.words, base / 4);
        if (sum === 0) return await this.#endBlock(extension);
        this.#check(base, sum);
        const flag = this.#buffer.bytes[base + FIELD.typeflag.at] as number;
        if (!isRecord(flag)) {
          const decoded = this.#decoder.decode(this.#buffer.bytes, base, extension);
          if (decoded.oldSparse || extension.pax?.sparse) {
            await readSparse(decoded, base, extension.pax?.sparse, { buffer: this.#buffer, place, nextBlock: () => this.#sparseBlock() });
            this.#holes += decoded.entry.size - decoded.entry.storedSize;
          }
          return this.#open(decoded.entry, offset);
        }
        const size = decodeNumber(this.#buffer.bytes, base, FIELD.size);
        if (!(size >= 0)) throw place.corrupt('size field of a header record is not a size');
        const total = size + paddingOf(size);
        this.#count(TAR_BLOCK + total);
        // Without waiting where it can be: in many layers every entry has a pax header.
        if (!this.#takeRecord(total)) await this.#pullRecord(total);
        this.#record(flag, this.#buffer.end - total, size, extension);
        place.offset = this.#reader.position;
      }
    } catch (error) {
      throw (this.#failure = wrapError(error, 'IO', `${this.#place.what}: cannot read`, { offset: this.#reader.position }));
    } finally {
      this.#busy = false;
    }
  }

  /**
   * The current entry's payload, holes of sparse files filled with zeros. Pieces are lent as `ByteStream` says; a stream
   * that was left early goes on where it stopped when `body` is called again. Ends with `next`.
   */
  body(): ByteStream {
    return this.#payload.expanded();
  }

  /** The current entry's payload as stored: `storedSize` bytes. */
  rawBody(): ByteStream {
    return this.#payload.stored();
  }

  /** The whole payload at once, lent, when no waiting or joining is needed for it; `undefined` otherwise, and `body` has it. */
  bodyReady(): Uint8Array | undefined {
    return this.#payload.ready();
  }

  /**
   * Every byte behind the last entry's padding, as is, once `next` has returned `undefined`: the zero blocks and whatever
   * follows them, and global headers (with records in front of them) that no entry came after.
   */
  async *trailer(): ByteStream {
    if (!this.#ended) throw new LazypullError('INTERNAL', `${this.#place.what}: the trailer is read before the last entry`);
    if (this.#buffer.length > 0) yield this.#buffer.take();
    for (;;) {
      let bytes: Uint8Array;
      try {
        bytes = await this.#reader.some(Number.MAX_SAFE_INTEGER);
      } catch (error) {
        throw wrapError(error, 'IO', `${this.#place.what}: cannot read`, { offset: this.#reader.position });
      }
      if (bytes.length === 0) return;
      this.#checkSize(this.#reader.position);
      yield bytes;
    }
  }

  /** Tells the stream that no more will be read. */
  async close(): Promise<void> {
    this.#failure ??= new LazypullError('INTERNAL', `${this.#place.what}: read after close()`);
    await this.#reader.close();
  }

  async #pullBlock(): Promise<boolean> {
    const block = await this.#reader.upTo(TAR_BLOCK);
    if (block.length === 0) return false;
    if (block.length < TAR_BLOCK) throw this.#place.corrupt(`archive ends inside a header block: ${TAR_BLOCK - block.length} bytes are missing`);
    this.#buffer.append(block);
    return true;
  }

  #check(base: number, sum: number): void {
    const { bytes } = this.#buffer;
    const wanted = decodeNumber(bytes, base, FIELD.checksum);
    const unsigned = checksumOf(bytes, base, sum);
    if (wanted === unsigned || wanted === signedChecksumOf(bytes, base, unsigned)) return;
    throw this.#place.corrupt(Number.isNaN(wanted) ? 'no tar header: its checksum is not a number' : `no tar header: its checksum is ${wanted}, its bytes sum up to ${unsigned}`);
  }

  /** Decodes a record that says something about the next entry ('x', 'L', 'K'), or passes over a global one ('g'). */
  #record(flag: number, start: number, size: number, extension: Open): void {
    const { bytes } = this.#buffer;
    if (flag === 0x78) {
      // Two in a row are not in POSIX; as in Go's reader, and so in containerd and docker, the last one counts alone.
      extension.pax = decodePax(bytes, start, start + size, this.#place);
    } else if (flag === 0x67) {
      checkPax(bytes, start, start + size, this.#place);
      // POSIX has them say something about all that follows. To Go's reader, and so to containerd, docker and podman, they
      // are entries of their own, which are passed over together with the records in front of them: containers see neither.
      extension.pax = extension.longName = extension.longLink = undefined;
      extension.seen = false;
      return;
    } else {
      const name = decodeTextRange(bytes, start, size) || undefined;
      if (flag === 0x4c) extension.longName = name;
      else extension.longLink = name;
    }
    extension.seen = true;
  }

  #open(entry: Decoded['entry'], offset: number): TarEntry {
    entry.offset = offset;
    const end = this.#reader.position + entry.storedSize + paddingOf(entry.storedSize);
    if (!Number.isSafeInteger(end)) throw this.#place.corrupt(`payload of ${entry.storedSize} bytes ends beyond 2^53`);
    this.#checkSize(end);
    entry.header = this.#buffer.take();
    this.#payload.begin(entry);
    return entry;
  }

  /** Holds the size of the entry's records against the limit, before they are read. */
  #count(bytes: number): void {
    this.#records += bytes;
    if (this.#records > this.#maxHeaderSize) throw this.#place.error('LIMIT', `header records of one entry take more than ${this.#maxHeaderSize} bytes`);
  }

  #takeRecord(size: number): boolean {
    const bytes = this.#reader.takeReady(size);
    if (!bytes) return false;
    this.#buffer.append(bytes);
    return true;
  }

  async #pullRecord(size: number): Promise<void> {
    let left = size;
    while (left > 0) {
      const bytes = await this.#reader.some(left);
      if (bytes.length === 0) throw this.#place.corrupt(`archive ends inside a header record: ${left} bytes are missing`);
      this.#buffer.append(bytes);
      left -= bytes.length;
    }
  }

  async #sparseBlock(): Promise<void> {
    this.#count(TAR_BLOCK);
    if (!this.#takeRecord(TAR_BLOCK)) await this.#pullRecord(TAR_BLOCK);
  }

  /** A zero block was read. One more ends the archive, and so does the end of the stream; anything else is a torn archive. */
  async #endBlock(extension: Open): Promise<undefined> {
    this.#place.offset = this.#reader.position;
    if (this.#takeRecord(TAR_BLOCK) || (await this.#pullBlock())) {
      if (sumWords(this.#buffer.words, (this.#buffer.end - TAR_BLOCK) / 4) !== 0) throw this.#place.corrupt('a single zero block in the middle of the archive');
    }
    return this.#end(extension);
  }

  #end(extension: Open): undefined {
    if (extension.seen) throw this.#place.corrupt('archive ends after the records of an entry whose header is missing');
    this.#checkSize(this.#reader.position);
    this.#ended = true;
    return undefined;
  }

  #checkSize(end: number): void {
    if (end + this.#holes > this.#maxSize) throw this.#place.error('LIMIT', `archive is larger than the ${this.#maxSize} bytes allowed`);
  }
}

/** The records collected for the entry that comes next. */
interface Open extends Extension {
  pax: PaxAttributes | undefined;
  longName: string | undefined;
  longLink: string | undefined;
  /** Whether there was any that only makes sense in front of an entry. */
  seen?: boolean;
}

function isRecord(flag: number): boolean {
  return flag === 0x78 || flag === 0x67 || flag === 0x4c || flag === 0x4b;
}
