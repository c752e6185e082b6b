import { encodeName } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { Attributes, DirectoryNode, FileNode } from '../../src/core/types.ts';
import type { TarFile } from './tar-file.ts';
import { Before, FLAG, KIND, TAR_BLOCK } from './tree-layout.ts';
import { VarintWriter } from './varint.ts';

/** Seconds since the epoch that rows have room for: differences of them have to be exact. */
const MAX_SECONDS = 2 ** 51;

/** The rows of a layer's tree, whose files are all `TarFile`. LIMIT for times that no row has room for. */
export function encodeTree(root: DirectoryNode): Uint8Array {
  const rows = new Rows();
  rows.add('', root);
  const nodes = new Map<FileNode, number>();
  const open: Iterator<[string, FileNode]>[] = [root.children.entries()];
  for (let top = open.at(-1); top; top = open.at(-1)) {
    const next = top.next();
    if (next.done) {
      rows.end();
      open.pop();
      continue;
    }
    const [name, node] = next.value;
    const known = nodes.get(node);
    if (known !== undefined) {
      rows.addLink(name, known);
      continue;
    }
    rows.add(name, node);
    if (node.type === 'directory') open.push(node.children.entries());
    else nodes.set(node, nodes.size);
  }
  return rows.finish();
}

class Rows {
  readonly #rows = new VarintWriter();
  /** Names of owners, and sets of extended attributes, each in the order in which they are first met. */
  readonly #texts = new Map<string, number>([['', 0]]);
  readonly #sets = new Map<string, { readonly number: number; readonly xattrs: Attributes['xattrs'] }>();
  readonly #before = new Before();

  add(name: string, node: FileNode): void {
    const rows = this.#rows;
    if (node.type === 'directory' && node.implied) {
      rows.byte(KIND.directory | FLAG.special);
      rows.counted(encodeName(name));
      return;
    }
    const same = this.#sameOwner(node);
    const sparse = node.type === 'file' && (node as TarFile).runs !== undefined;
    rows.byte(KIND[node.type] | (same ? FLAG.sameOwner : 0) | (node.xattrs.size > 0 ? FLAG.xattrs : 0) | (sparse ? FLAG.special : 0));
    rows.counted(encodeName(name));
    this.#addAttributes(node, same);
    if (node.type === 'symlink') rows.counted(encodeName(node.target));
    else if (node.type === 'char' || node.type === 'block') for (const number of [node.major, node.minor]) rows.number(number);
    else if (node.type === 'file') this.#addFile(node as TarFile);
  }

  addLink(name: string, target: number): void {
    this.#rows.byte(KIND.link);
    this.#rows.counted(encodeName(name));
    this.#rows.number(target);
  }

  end(): void {
    this.#rows.byte(KIND.end);
  }

  /** Tables first: they are complete only now. */
  finish(): Uint8Array {
    const head = new VarintWriter();
    head.number(this.#texts.size - 1);
    for (const text of this.#texts.keys()) if (text !== '') head.counted(encodeName(text));
    head.number(this.#sets.size);
    for (const { xattrs } of this.#sets.values()) {
      head.number(xattrs.size);
      for (const [name, value] of xattrs) {
        head.counted(encodeName(name));
        head.counted(value);
      }
    }
    return Buffer.concat([head.bytes, this.#rows.bytes]);
  }

  #sameOwner({ uid, gid, userName, groupName }: FileNode): boolean {
    const before = this.#before;
    return uid === before.uid && gid === before.gid && this.#textOf(userName) === before.user && this.#textOf(groupName) === before.group;
  }

  #addAttributes({ mode, uid, gid, userName, groupName, mtime, xattrs }: FileNode, same: boolean): void {
    const rows = this.#rows;
    const before = this.#before;
    rows.number(mode);
    if (!same) {
      before.uid = uid;
      before.gid = gid;
      before.user = this.#textOf(userName);
      before.group = this.#textOf(groupName);
      for (const number of [uid, gid, before.user, before.group]) rows.number(number);
    }
    if (Math.abs(mtime.seconds) > MAX_SECONDS) throw new LazypullError('LIMIT', `a time of ${mtime.seconds} seconds is nothing that a mount index has room for`);
    rows.signed(mtime.seconds - before.seconds);
    before.seconds = mtime.seconds;
    rows.number(mtime.nanoseconds);
    if (xattrs.size > 0) rows.number(this.#setOf(xattrs));
  }

  #addFile({ size, runs, stored, payload }: TarFile): void {
    const rows = this.#rows;
    rows.number(size);
    if (runs) {
      rows.number(runs.length);
      let at = 0;
      for (const { offset, length } of runs) {
        rows.number(offset - at);
        rows.number(length);
        at = offset + length;
      }
    }
    if (stored === 0) return;
    const block = payload / TAR_BLOCK;
    rows.signed(block - this.#before.block);
    this.#before.block = block + Math.ceil(stored / TAR_BLOCK);
  }

  #textOf(text = ''): number {
    const known = this.#texts.get(text) ?? this.#texts.size;
    this.#texts.set(text, known);
    return known;
  }

  #setOf(xattrs: Attributes['xattrs']): number {
    const key = [...xattrs].map(([name, value]) => `${name.length} ${name}${value.length} ${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1')}`).join('');
    const set = this.#sets.get(key) ?? { number: this.#sets.size, xattrs };
    this.#sets.set(key, set);
    return set.number;
  }
}
