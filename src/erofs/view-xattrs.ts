import { corrupt } from '../core/errors.ts';
import type { Inode } from './inode.ts';
import { LONG_PREFIX, XATTR_ENTRY, XATTR_ENTRY_SIZE, XATTR_HEADER, XATTR_HEADER_SIZE, XATTR_PREFIXES } from './layout.ts';
import type { ErofsView } from './view.ts';

/** Extended attributes of one inode of an image in memory (§12). Throws CORRUPT for what the image says wrongly. */
export class XattrView {
  readonly #view: ErofsView;
  readonly #prefixes: ReadonlyMap<number, Buffer>;
  /** Where ids of shared attributes count from, bytes. */
  readonly #sharedBase: number;

  constructor(view: ErofsView) {
    const { superblock, prefixes } = view.head;
    this.#view = view;
    this.#prefixes = new Map([
      ...[...XATTR_PREFIXES].map(([index, prefix]) => [index, Buffer.from(prefix)] as const),
      ...prefixes.map((prefix, i) => [LONG_PREFIX + i, Buffer.from(prefix, 'latin1')] as const),
    ]);
    this.#sharedBase = superblock.xattrBlock * superblock.blockSize;
  }

  /** The value of an attribute, lent. */
  get(nid: number, inode: Inode, name: Uint8Array): Buffer | undefined {
    let found: Buffer | undefined;
    this.#each(nid, inode, (prefix, suffix, value) => {
      const same = prefix.length + suffix.length === name.length && prefix.equals(name.subarray(0, prefix.length)) && suffix.equals(name.subarray(prefix.length));
      if (same) found = value;
      return !same;
    });
    return found;
  }

  /** Names of all attributes. */
  names(nid: number, inode: Inode): Buffer[] {
    const names: Buffer[] = [];
    this.#each(nid, inode, (prefix, suffix) => names.push(Buffer.concat([prefix, suffix])) > 0);
    return names;
  }

  #each(nid: number, { headerSize, xattrSize }: Inode, visit: (prefix: Buffer, suffix: Buffer, value: Buffer) => boolean): void {
    if (xattrSize === 0) return;
    const { bytes } = this.#view;
    const start = this.#view.offsetOf(nid) + headerSize;
    const end = start + xattrSize;
    if (end > bytes.length) throw corrupt(`extended attributes reach outside the image of ${bytes.length} bytes`, { offset: start });
    const shared = bytes[start + XATTR_HEADER.sharedCount] as number;
    let at = start + XATTR_HEADER_SIZE + shared * 4;
    if (at > end) throw corrupt(`${shared} shared attributes in a body of ${xattrSize} bytes`, { offset: start });
    for (let id = start + XATTR_HEADER_SIZE; id < at; id += 4) {
      if (!this.#entry(this.#sharedBase + bytes.readUInt32LE(id) * 4, bytes.length, visit)) return;
    }
    while (at < end) {
      if (!this.#entry(at, end, visit)) return;
      at += Math.ceil(this.#size(at) / 4) * 4;
    }
  }

  #entry(at: number, limit: number, visit: (prefix: Buffer, suffix: Buffer, value: Buffer) => boolean): boolean {
    const { bytes } = this.#view;
    if (at + XATTR_ENTRY_SIZE > limit || at + this.#size(at) > limit) throw corrupt('extended attribute is cut off', { offset: at });
    const prefix = this.#prefixes.get(bytes[at + XATTR_ENTRY.nameIndex] as number);
    if (!prefix) throw corrupt(`name of an extended attribute has the unknown prefix ${bytes[at + XATTR_ENTRY.nameIndex] as number}`, { offset: at });
    const name = at + XATTR_ENTRY_SIZE;
    const value = name + (bytes[at + XATTR_ENTRY.nameLength] as number);
    return visit(prefix, bytes.subarray(name, value), bytes.subarray(value, at + this.#size(at)));
  }

  /** Bytes of the entry at a place, without padding. */
  #size(at: number): number {
    const { bytes } = this.#view;
    return XATTR_ENTRY_SIZE + (bytes[at + XATTR_ENTRY.nameLength] as number) + bytes.readUInt16LE(at + XATTR_ENTRY.valueSize);
  }
}
