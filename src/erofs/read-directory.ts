import { decodeName } from '../core/bytes.ts';
import { corrupt } from '../core/errors.ts';
import { DIRENT, DIRENT_SIZE, FILE_TYPE, MAX_NAME_SIZE } from './layout.ts';
import { readU64 } from './struct.ts';

export interface Dirent {
  readonly name: string;
  readonly nid: number;
  /** FILE_TYPE. */
  readonly type: number;
  /** In the image. */
  readonly offset: number;
}

const SLASH = 0x2f;
const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

/** Reads the blocks of one directory in order (§10), `.` and `..` left out. */
export class DirectoryReader {
  #last: Buffer | undefined;

  /** The entries of the next block; `offset` is its place in the image. */
  entries(block: Buffer, offset: number): readonly Dirent[] {
    const found: Dirent[] = [];
    if (block.length < DIRENT_SIZE) throw corrupt(`directory block of ${block.length} bytes`, { offset });
    const first = block.readUInt16LE(DIRENT.nameoff);
    if (first === 0 || first % DIRENT_SIZE !== 0 || first > block.length) throw corrupt(`names of a directory block of ${block.length} bytes begin at ${first}`, { offset });
    let start = first;
    for (let at = 0; at < first; at += DIRENT_SIZE) {
      const last = at + DIRENT_SIZE === first;
      let end = last ? block.length : block.readUInt16LE(at + DIRENT_SIZE + DIRENT.nameoff);
      if (end <= start || end > block.length) throw corrupt(`name from ${start} to ${end} in a directory block of ${block.length} bytes`, { offset: offset + at });
      if (last) {
        // What is behind the last name is filled up with zeros.
        const nul = block.indexOf(0, start);
        if (nul >= 0) end = nul;
      }
      const name = block.subarray(start, end);
      start = end;
      this.#check(name, offset + at);
      const type = block[at + DIRENT.fileType] as number;
      if (type > FILE_TYPE.symlink) throw corrupt(`directory entry of type ${type}`, { offset: offset + at });
      if (name.equals(DOT) || name.equals(DOT_DOT)) continue;
      found.push({ name: decodeName(name), nid: readU64(block, at + DIRENT.nid, 'nid', offset), type, offset: offset + at });
    }
    return found;
  }

  /** Kernels look names up by bisection: what is not in its place cannot be found. */
  #check(name: Buffer, offset: number): void {
    if (name.length === 0 || name.length > MAX_NAME_SIZE) throw corrupt(`name of ${name.length} bytes in a directory`, { offset });
    if (name.includes(0) || name.includes(SLASH)) throw corrupt('name with a slash or NUL in a directory', { offset });
    if (this.#last && Buffer.compare(this.#last, name) >= 0) throw corrupt(this.#last.equals(name) ? 'name appears twice in a directory' : 'names of a directory are not sorted', { offset });
    this.#last = name;
  }
}
