// A layer's tree as one row per name, a directory's rows behind its own, ended by a row of one zero byte. What most rows have in
// common with the one before is left out. README.md has the fields.

export const KIND = { end: 0, file: 1, directory: 2, symlink: 3, char: 4, block: 5, fifo: 6, link: 7 } as const;
export const KIND_MASK = 0x0f;
/** Bits of a row's first byte above its kind. `special` is an implied directory, or a sparse file. */
export const FLAG = { sameOwner: 0x10, xattrs: 0x20, special: 0x40 } as const;

/** Files begin at multiples of this in the tar. */
export const TAR_BLOCK = 512;
/** Bytes of all holes of a layer: nobody reads more zeros than that. */
export const MAX_HOLES = 2 ** 40;

/** What rows leave out when it is as in the row before. */
export class Before {
  uid = -1;
  gid = -1;
  user = 0;
  group = 0;
  seconds = 0;
  /** End of the payload, in blocks. */
  block = 0;
}
