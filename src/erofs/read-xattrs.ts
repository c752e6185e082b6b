import { decodeName } from '../core/bytes.ts';
import { corrupt, LazypullError } from '../core/errors.ts';
import { LONG_PREFIX, XATTR_ENTRY, XATTR_ENTRY_SIZE, XATTR_HEADER, XATTR_HEADER_SIZE, XATTR_PREFIXES } from './layout.ts';
import type { Pages } from './pages.ts';
import type { Head } from './read-head.ts';

type Xattr = readonly [name: string, value: Uint8Array];

/** Names and values of one image as they are in memory, bytes: entries of the shared area may overlap, so that little of it can stand for much. */
const MAX_BYTES = 256 << 20;
/** What an attribute takes besides its bytes, and in each set that it is in. */
const OVERHEAD = 64;
/** Small bodies that are remembered, so that files with equal attributes share them. */
const REMEMBERED = 4096;
const REMEMBERED_SIZE = 256;

/** Reads extended attributes (§12). */
export class XattrReader {
  readonly #pages: Pages;
  readonly #prefixes: readonly string[];
  /** Where ids count from, bytes. */
  readonly #sharedBase: number;
  readonly #shared = new Map<number, Xattr>();
  readonly #bodies = new Map<string, ReadonlyMap<string, Uint8Array>>();
  #bytes = 0;

  constructor(pages: Pages, { superblock, prefixes }: Head) {
    this.#pages = pages;
    this.#prefixes = prefixes;
    this.#sharedBase = superblock.xattrBlock * superblock.blockSize;
  }

  /** The attributes of a body of `size` bytes, at least 12. */
  async read(offset: number, size: number): Promise<ReadonlyMap<string, Uint8Array>> {
    const got = this.#pages.read(offset, size, 'extended attributes');
    const body = got instanceof Promise ? await got : got;
    const key = size <= REMEMBERED_SIZE ? body.toString('latin1') : undefined;
    const known = key === undefined ? undefined : this.#bodies.get(key);
    if (known) return known;
    const xattrs = new Map<string, Uint8Array>();
    const add = ([name, value]: Xattr, at: number): void => {
      if (xattrs.has(name)) throw corrupt('extended attribute appears twice', { offset: at });
      xattrs.set(name, value);
      this.#account(OVERHEAD, at);
    };
    const shared = body[XATTR_HEADER.sharedCount] as number;
    let at = XATTR_HEADER_SIZE + shared * 4;
    if (at > size) throw corrupt(`${shared} shared attributes in a body of ${size} bytes`, { offset });
    for (let next = XATTR_HEADER_SIZE; next < at; next += 4) add(await this.#sharedEntry(body.readUInt32LE(next)), offset + next);
    while (at < size) {
      if (at + XATTR_ENTRY_SIZE > size) throw corrupt('extended attribute is cut off', { offset: offset + at });
      const end = at + entrySize(body, at);
      if (end > size) throw corrupt('extended attribute reaches beyond its inode', { offset: offset + at });
      add(this.#decode(body.subarray(at, end), offset + at), offset + at);
      at = Math.ceil(end / 4) * 4;
    }
    if (key !== undefined && this.#bodies.size < REMEMBERED) this.#bodies.set(key, xattrs);
    return xattrs;
  }

  async #sharedEntry(id: number): Promise<Xattr> {
    const known = this.#shared.get(id);
    if (known) return known;
    const offset = this.#sharedBase + id * 4;
    const head = await this.#pages.read(offset, XATTR_ENTRY_SIZE, 'shared attribute');
    const entry = this.#decode(await this.#pages.read(offset, entrySize(head, 0), 'shared attribute'), offset);
    this.#shared.set(id, entry);
    return entry;
  }

  #decode(bytes: Buffer, offset: number): Xattr {
    const end = XATTR_ENTRY_SIZE + (bytes[XATTR_ENTRY.nameLength] as number);
    const index = bytes[XATTR_ENTRY.nameIndex] as number;
    const prefix = index >= LONG_PREFIX ? this.#prefixes[index - LONG_PREFIX] : XATTR_PREFIXES.get(index);
    if (prefix === undefined) throw corrupt(`name of an extended attribute has the unknown prefix ${index}`, { offset });
    const suffix = bytes.subarray(XATTR_ENTRY_SIZE, end);
    if (suffix.includes(0)) throw corrupt('name of an extended attribute has a NUL', { offset });
    this.#account(bytes.length + OVERHEAD, offset);
    // Not a view: a value must not keep a page of the image in memory.
    return [prefix + decodeName(suffix), new Uint8Array(bytes.subarray(end))];
  }

  #account(bytes: number, offset: number): void {
    this.#bytes += bytes;
    if (this.#bytes > MAX_BYTES) throw new LazypullError('LIMIT', `extended attributes take more than ${MAX_BYTES} bytes`, { offset });
  }
}

/** Bytes of the entry at a place, without padding. */
function entrySize(bytes: Buffer, at: number): number {
  return XATTR_ENTRY_SIZE + (bytes[at + XATTR_ENTRY.nameLength] as number) + bytes.readUInt16LE(at + XATTR_ENTRY.valueSize);
}
