import { encodeName } from '../core/bytes.ts';
import { LazypullError, printable } from '../core/errors.ts';
import type { FileNode } from '../core/types.ts';
import type { Inventory } from './inventory.ts';
import { XATTR_ENTRY, XATTR_ENTRY_SIZE, XATTR_HEADER, XATTR_HEADER_SIZE, XATTR_PREFIXES } from './layout.ts';
import { NumberList } from './list.ts';
import { viewOf } from './struct.ts';

/** Bytes; the count in the inode has 16 bits. */
const MAX_BODY = XATTR_HEADER_SIZE + 4 * 0xfffe;
const MAX_VALUE = 0xffff;
const MAX_SUFFIX = 0xff;
/** Shared ids of one inode. */
const MAX_SHARED = 0xff;

interface Entry {
  readonly bytes: Uint8Array;
  /** Inodes that have it. */
  uses: number;
  /** Number of its place in the shared area, in units of 4 bytes; undefined when it is stored with each inode. */
  id?: number;
}

/**
 * Extended attributes of a tree (§12). Equal sets are kept once in memory; an attribute that many inodes have is stored once
 * in the image where that takes less room.
 */
export class XattrTable {
  /** Bytes of the shared area. */
  readonly sharedSize: number;
  /** What cannot be stored, as a warning; undefined when there is nothing. */
  readonly warning: string | undefined;
  readonly #bodies: (readonly Entry[])[] = [];
  readonly #bodySizes = new NumberList();
  /** By inode, 0 for none: number of its body + 1. */
  readonly #bodyOf: Uint32Array;
  readonly #shared: Entry[] = [];

  /** `share: false` stores every attribute with its inode. */
  constructor(inventory: Inventory, share: boolean) {
    this.#bodyOf = new Uint32Array(inventory.inodes);
    const entries = new Map<string, Entry>();
    const bodies = new Map<string, number>();
    const seen = new Map<FileNode['xattrs'], number>();
    let dropped = 0;
    let example = '';
    for (let inode = 0; inode < inventory.inodes; inode += 1) {
      const { xattrs } = inventory.nodes[inode] as FileNode;
      if (xattrs.size === 0) continue;
      let body = seen.get(xattrs);
      if (body === undefined) {
        const list: Entry[] = [];
        for (const [name, value] of sorted(xattrs)) {
          const bytes = encodeEntry(name, value);
          if (bytes) {
            list.push(remember(entries, bytes));
          } else {
            dropped += 1;
            example ||= `${printable(name.slice(0, 80))} of ${printable(`/${inventory.pathOf(inode)}`)}`;
          }
        }
        body = list.length === 0 ? 0 : this.#remember(bodies, list);
        seen.set(xattrs, body);
      }
      this.#bodyOf[inode] = body;
      if (body > 0) for (const entry of this.#bodies[body - 1] as readonly Entry[]) entry.uses += 1;
    }
    this.warning = dropped === 0 ? undefined : `EROFS cannot hold ${dropped} extended ${dropped === 1 ? 'attribute' : 'attributes'}, which ${dropped === 1 ? 'is' : 'are'} left out: ${example}`;
    this.sharedSize = share ? this.#share(entries) : 0;
    for (const list of this.#bodies) {
      let size = XATTR_HEADER_SIZE;
      for (const entry of list) size += entry.id === undefined ? entry.bytes.length : 4;
      this.#bodySizes.push(size);
    }
    for (let inode = 0; inode < inventory.inodes; inode += 1) {
      if (this.sizeOf(inode) > MAX_BODY) throw new LazypullError('UNSUPPORTED', `extended attributes of ${this.sizeOf(inode)} bytes; EROFS holds ${MAX_BODY} for a file`, { path: inventory.pathOf(inode) });
    }
  }

  /** Bytes of an inode's body, a multiple of 4; 0 without attributes. */
  sizeOf(inode: number): number {
    const body = this.#bodyOf[inode] as number;
    return body === 0 ? 0 : this.#bodySizes.at(body - 1);
  }

  /** Writes an inode's body; `base` is added to ids: where the shared area starts behind its base block, in units of 4. */
  write(inode: number, bytes: Uint8Array, at: number, base: number): void {
    const body = this.#bodies[(this.#bodyOf[inode] as number) - 1];
    if (!body) return;
    const view = viewOf(bytes);
    const shared = body.filter(({ id }) => id !== undefined);
    bytes[at + XATTR_HEADER.sharedCount] = shared.length;
    let next = at + XATTR_HEADER_SIZE;
    for (const { id } of shared) {
      view.setUint32(next, base + (id as number), true);
      next += 4;
    }
    for (const { id, bytes: entry } of body) {
      if (id !== undefined) continue;
      bytes.set(entry, next);
      next += entry.length;
    }
  }

  /** The entries of the shared area, in order. */
  *shared(): Generator<Uint8Array> {
    for (const { bytes } of this.#shared) yield bytes;
  }

  #remember(bodies: Map<string, number>, list: readonly Entry[]): number {
    const key = list.map(({ bytes }) => Buffer.from(bytes).toString('latin1')).join('');
    let body = bodies.get(key);
    if (body === undefined) bodies.set(key, (body = this.#bodies.push(list)));
    return body;
  }

  /** Gives a shared place to what is cheaper so, in order of appearance. */
  #share(entries: ReadonlyMap<string, Entry>): number {
    let size = 0;
    for (const entry of entries.values()) {
      const { bytes, uses } = entry;
      if (uses * bytes.length <= bytes.length + uses * 4) continue;
      entry.id = size / 4;
      size += bytes.length;
      this.#shared.push(entry);
    }
    for (const list of this.#bodies) {
      const shared = list.filter(({ id }) => id !== undefined);
      if (shared.length > MAX_SHARED) throw new LazypullError('UNSUPPORTED', `a file has ${shared.length} extended attributes in common with others; EROFS holds ${MAX_SHARED}`);
    }
    return size;
  }
}

function remember(entries: Map<string, Entry>, bytes: Uint8Array): Entry {
  const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  let entry = entries.get(key);
  if (!entry) entries.set(key, (entry = { bytes, uses: 0 }));
  return entry;
}

function sorted(xattrs: FileNode['xattrs']): readonly [string, Uint8Array][] {
  if (xattrs.size === 1) return [...xattrs];
  return [...xattrs].map(([name, value]) => ({ name, value, bytes: encodeName(name) })).sort((a, b) => Buffer.compare(a.bytes, b.bytes)).map(({ name, value }) => [name, value]);
}

/** An entry with its padding; undefined for an attribute that the format cannot hold. */
function encodeEntry(name: string, value: Uint8Array): Uint8Array | undefined {
  for (const [index, prefix] of XATTR_PREFIXES) {
    if (!name.startsWith(prefix)) continue;
    const suffix = encodeName(name.slice(prefix.length));
    const whole = !prefix.endsWith('.');
    if (whole !== (suffix.length === 0) || suffix.length > MAX_SUFFIX || suffix.includes(0) || value.length > MAX_VALUE) return undefined;
    const size = XATTR_ENTRY_SIZE + suffix.length + value.length;
    const bytes = new Uint8Array(Math.ceil(size / 4) * 4);
    bytes[XATTR_ENTRY.nameLength] = suffix.length;
    bytes[XATTR_ENTRY.nameIndex] = index;
    viewOf(bytes).setUint16(XATTR_ENTRY.valueSize, value.length, true);
    bytes.set(suffix, XATTR_ENTRY_SIZE);
    bytes.set(value, XATTR_ENTRY_SIZE + suffix.length);
    return bytes;
  }
  return undefined;
}
