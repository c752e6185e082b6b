/**
 * A layer's content as one flat run of bytes, which the kernel (EROFS `device=`) or our own file system reads from. Its size
 * is a multiple of 4096; what no chunk fills reads as zeros. For an index that describes a tar, addresses are those of the tar.
 */
export interface ServedDevice {
  /** Bytes. */
  readonly size: number;
  /** Descriptor of the local file, same addresses, that holds what is here already. */
  readonly fd: number;
  /**
   * One bit for each page of 4096 bytes (bit n % 8 of byte n / 8), set when the page is in the file and proven. Whoever has
   * read a page looks again: eviction clears the bit first and drops the bytes then.
   */
  readonly present: SharedArrayBuffer;
  /** One byte for each 4 MiB: whoever reads from the file sets it to 1, so that what is in use is not what is evicted. */
  readonly touched?: SharedArrayBuffer;
}

/** What a FUSE server shows: cloneable, so that it reaches its thread as it is. */
export interface Served {
  /** `tree`: the image's files. `devices`: one file for each device, named by its number from 1, for the kernel's EROFS. */
  readonly shape: 'tree' | 'devices';
  /** EROFS image without content: every non-empty file is chunk-based, on devices 1..n in the order of `devices`. */
  readonly metadata: SharedArrayBuffer;
  readonly devices: readonly ServedDevice[];
}

/** Bytes of a device that are not here. */
export interface Miss {
  /** From 0. */
  readonly device: number;
  /** Bytes from the device's start. */
  readonly address: number;
  readonly length: number;
}

/** Gets bytes of a device from wherever they are: exactly `length` of them, proven, and nobody else's (see `giveBack`), or a LazypullError. */
export type AnswerMiss = (miss: Miss, signal?: AbortSignal) => Promise<Uint8Array>;
