import type { Time } from '../core/types.ts';

/** What an entry makes. Contiguous files (typeflag 7) are files; sparse files are files with `sparse` set. */
export type TarType = 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo';

/** A run of bytes of a sparse file that the archive stores; what lies between the runs is zero. */
export interface SparseRun {
  /** Place in the expanded file, bytes. */
  readonly offset: number;
  /** Bytes, at least 1. */
  readonly length: number;
}

/**
 * One entry of an archive. The entry's bytes in the stream are `header`, then `storedSize` payload bytes, then
 * `paddingOf(storedSize)` padding bytes, starting at `offset`: entry after entry, and the trailer last, they are the archive.
 */
export interface TarEntry {
  /** Raw name by `decodeName`: a leading `./` or `/` and a trailing `/` are kept. May be empty (the root). */
  readonly path: string;
  /** Raw target of a hard link (a path in the archive) or a symlink (any text); empty for everything else. */
  readonly linkName: string;
  readonly type: TarType;
  /** Permission and special bits, 0..07777. */
  readonly mode: number;
  /** The mode number as the header has it; old archives keep file type bits in it. */
  readonly rawMode: number;
  /** 0..2^32-1. */
  readonly uid: number;
  /** 0..2^32-1. */
  readonly gid: number;
  /** Empty when the archive has none. */
  readonly userName: string;
  readonly groupName: string;
  readonly mtime: Time;
  readonly atime?: Time;
  readonly ctime?: Time;
  /** Device numbers; 0 for everything that is no device. */
  readonly major: number;
  readonly minor: number;
  /** Payload bytes once sparse holes are filled in; 0 for everything but files, whatever the header claims. */
  readonly size: number;
  /** By name, values as raw bytes. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Where in the stream the entry's first header block is; every record in front of it counts as its own, also global ones. */
  readonly offset: number;
  /** Every byte from `offset` to the payload, as stored: header blocks, their records, sparse maps. The caller's to keep. */
  readonly header: Uint8Array;
  /** Payload bytes in the archive, without padding. */
  readonly storedSize: number;
  /** The stored runs of a sparse file, ascending and without overlap; their lengths sum up to `storedSize`. */
  readonly sparse?: readonly SparseRun[];
}
