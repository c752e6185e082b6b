import type { Attributes, Extent, RegularNode, Time } from '../../src/core/types.ts';
import type { SparseRun } from '../../src/tar/entry.ts';

/** A layer's plain tar, as far as the files in it have to know it. */
export interface TarContent {
  /** The bytes `[start, end)` of the tar as extents of a file, the first of them at `fileOffset`. */
  extents(start: number, end: number, fileOffset: number): Iterable<Extent>;
  /** Zeros as extents of a file. */
  hole(fileOffset: number, length: number): Iterable<Extent>;
}

/** For files that are only placed, and not read. */
export const NOWHERE: TarContent = { extents: () => [], hole: () => [] };

/** A file of a layer, known by where its bytes are in the tar. There may be millions: extents are made when asked for. */
export class TarFile implements RegularNode {
  readonly type = 'file';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly xattrs: Attributes['xattrs'];
  readonly userName?: string;
  readonly groupName?: string;
  /** Bytes, holes included. */
  readonly size: number;
  /** The tar that it is in. */
  readonly tar: TarContent;
  /** Where its bytes begin there. */
  readonly payload: number;
  /** What is stored of a sparse file. */
  readonly runs: readonly SparseRun[] | undefined;

  constructor({ mode, uid, gid, mtime, xattrs, userName, groupName }: Attributes, size: number, tar: TarContent, payload: number, runs?: readonly SparseRun[]) {
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.mtime = mtime;
    this.xattrs = xattrs;
    if (userName !== undefined) this.userName = userName;
    if (groupName !== undefined) this.groupName = groupName;
    this.size = size;
    this.tar = tar;
    this.payload = payload;
    this.runs = runs;
  }

  /** Bytes in the tar. */
  get stored(): number {
    return this.runs ? this.runs.reduce((sum, { length }) => sum + length, 0) : this.size;
  }

  get extents(): readonly Extent[] {
    if (!this.runs) return [...this.tar.extents(this.payload, this.payload + this.size, 0)];
    const extents: Extent[] = [];
    let at = 0;
    let payload = this.payload;
    for (const { offset, length } of this.runs) {
      extents.push(...this.tar.hole(at, offset - at), ...this.tar.extents(payload, payload + length, offset));
      payload += length;
      at = offset + length;
    }
    extents.push(...this.tar.hole(at, this.size - at));
    return extents;
  }
}
