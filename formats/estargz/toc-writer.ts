import { concat } from '../../src/core/bytes.ts';
import { Digester, type Digest } from '../../src/core/digest.ts';
import type { Sink, WorkerPool } from '../../src/core/types.ts';
import { crc32, crc32Combine } from '../../src/codec/crc32.ts';
import { deflatePiece, type DeflatedPiece } from '../../src/codec/gzip-members.ts';
import { deflateRaw } from '../../src/codec/deflate.ts';
import { gzipHeader, gzipTrailer } from '../../src/codec/gzip.ts';
import { inflateRaw } from '../../src/codec/inflate.ts';
import { END_OF_ARCHIVE, encodeTarHeader, paddingOf } from '../../src/tar/write.ts';
import { decodeToc, encodeTocEntry, TOC_EMPTY, TOC_HEAD, TOC_NAME, TOC_TAIL, type TocEntry } from './layout.ts';

/** JSON is compressed in pieces of about this many characters: a TOC of a million files is never whole in memory. */
const PIECE = 1 << 19;
/** Pieces on their way to the threads before `add` waits. */
const AHEAD = 4;

/** What a finished TOC looks like from outside. */
export interface FinishedToc {
  /** sha256 of the JSON. */
  readonly digest: Digest;
  /** TOC records, chunk records included. */
  readonly records: number;
  /** Writes the TOC's gzip member; every byte of its plain tar goes through `hash` too. Returns the compressed size. */
  write(sink: Sink, hash?: (bytes: Uint8Array) => Promise<void>): Promise<number>;
}

/** Takes TOC records in order and keeps only their compressed JSON. */
export class TocWriter {
  readonly #workers: WorkerPool;
  readonly #level: number;
  readonly #digester = new Digester();
  readonly #pieces: Promise<DeflatedPiece>[] = [];
  readonly #users = new Map<number, string>();
  readonly #groups = new Map<number, string>();
  #text: string[] = [];
  #characters = 0;
  #records = 0;

  constructor(workers: WorkerPool, level: number) {
    this.#workers = workers;
    this.#level = level;
  }

  /** Records so far: the next one gets this number. */
  get records(): number {
    return this.#records;
  }

  /** Adds a record; `userName` and `groupName` are given every time, and written only where they change for an id (§4.3). */
  async add(entry: TocEntry): Promise<void> {
    this.#carry(entry);
    const text = `${this.#records === 0 ? TOC_HEAD : ','}${encodeTocEntry(entry)}`;
    this.#records += 1;
    this.#text.push(text);
    this.#characters += text.length;
    if (this.#characters >= PIECE) {
      const piece = deflatePiece(this.#workers, this.#take(), this.#level);
      piece.catch(() => undefined);
      this.#pieces.push(piece);
      await this.#pieces[this.#pieces.length - AHEAD];
    }
  }

  /**
   * Ends the document. Records whose numbers are in `dropped` are left out, with their chunks; that reads the document
   * once more, which is why it happens only for layers that name a path twice.
   */
  async finish(dropped: ReadonlySet<number> = new Set()): Promise<FinishedToc> {
    this.#text.push(this.#records === 0 ? TOC_EMPTY : TOC_TAIL);
    const rest = this.#take();
    const pieces = await Promise.all(this.#pieces);
    if (dropped.size > 0) return this.#without(dropped, concat([...pieces.map((piece) => inflatePiece(piece)), rest]));
    const jsonSize = this.#digester.size;
    return {
      digest: this.#digester.finish(),
      records: this.#records,
      write: (sink, hash) => writeMember({ pieces, rest, jsonSize, level: this.#level }, sink, hash),
    };
  }

  #carry(entry: TocEntry): void {
    for (const [names, id, key] of [
      [this.#users, entry.uid ?? 0, 'userName'],
      [this.#groups, entry.gid ?? 0, 'groupName'],
    ] as const) {
      if (entry.type === 'chunk') continue;
      const name = entry[key] ?? '';
      if ((names.get(id) ?? '') === name) delete entry[key];
      else names.set(id, name);
    }
  }

  /** The JSON that no piece holds yet. */
  #take(): Uint8Array {
    const bytes = Buffer.from(this.#text.join(''), 'utf8');
    this.#text = [];
    this.#characters = 0;
    this.#digester.update(bytes);
    return bytes;
  }

  async #without(dropped: ReadonlySet<number>, json: Uint8Array): Promise<FinishedToc> {
    const again = new TocWriter(this.#workers, this.#level);
    const users = new Map<number, string>();
    const groups = new Map<number, string>();
    let drop = false;
    for (const [number, record] of decodeToc(json).entries()) {
      if (record.type !== 'chunk') {
        // A name that a dropped record carried for the ones behind it must not go with it.
        if (record.userName !== undefined) users.set(record.uid ?? 0, record.userName);
        if (record.groupName !== undefined) groups.set(record.gid ?? 0, record.groupName);
        const [user, group] = [users.get(record.uid ?? 0), groups.get(record.gid ?? 0)];
        if (user !== undefined) record.userName = user;
        if (group !== undefined) record.groupName = group;
        drop = dropped.has(number);
      }
      if (!drop) await again.add(record);
    }
    return again.finish();
  }
}

function inflatePiece(piece: DeflatedPiece): Uint8Array {
  return inflateRaw(piece.bytes, { size: piece.size });
}

/** One gzip member: tar header, JSON, padding, end of archive (§4.1). */
async function writeMember(
  toc: { pieces: readonly DeflatedPiece[]; rest: Uint8Array; jsonSize: number; level: number },
  sink: Sink,
  hash: ((bytes: Uint8Array) => Promise<void>) | undefined,
): Promise<number> {
  const { pieces, level } = toc;
  const header = encodeTarHeader({ path: TOC_NAME, type: 'file', mode: 0, uid: 0, gid: 0, size: toc.jsonSize, mtime: { seconds: 0, nanoseconds: 0 } });
  const last = concat([toc.rest, new Uint8Array(paddingOf(toc.jsonSize)), END_OF_ARCHIVE]);
  // A document that was never cut is compressed in one go, as a writer without pieces would.
  const head = pieces.length === 0 ? new Uint8Array(0) : header;
  const tail = pieces.length === 0 ? concat([header, last]) : last;
  let crc = crc32(head);
  await hash?.(head);
  for (const piece of pieces) {
    crc = crc32Combine(crc, piece.crc, piece.size);
    await hash?.(inflatePiece(piece));
  }
  crc = crc32(tail, crc);
  await hash?.(tail);
  let size = 0;
  const write = async (bytes: Uint8Array): Promise<void> => {
    size += bytes.length;
    await sink(bytes);
  };
  await write(gzipHeader(level));
  if (head.length > 0) await write(deflateRaw(head, level, false));
  for (const piece of pieces) await write(piece.bytes);
  await write(deflateRaw(tail, level));
  await write(gzipTrailer(crc, header.length + toc.jsonSize + last.length - toc.rest.length));
  return size;
}
