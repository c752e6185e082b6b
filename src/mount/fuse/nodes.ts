import type { DeviceRun } from '../../erofs/place.ts';
import { OUT_HEADER_SIZE } from './wire.ts';

/** Room for one reply: its header, and behind that what is asked for. */
export class Reply {
  bytes: Buffer;
  view: DataView;

  /** `size`: bytes of payload. */
  constructor(size: number) {
    this.bytes = Buffer.alloc(0);
    this.view = new DataView(this.bytes.buffer, 0, 0);
    this.#allocate(size);
  }

  /** Makes room for more. */
  grow(size: number): void {
    if (OUT_HEADER_SIZE + size > this.bytes.length) this.#allocate(size);
  }

  #allocate(size: number): void {
    this.bytes = Buffer.alloc(OUT_HEADER_SIZE + size);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }
}

/** Where every payload begins. */
export const PAYLOAD = OUT_HEADER_SIZE;

/**
 * What a mount shows: answers to the kernel's questions about nodes, which it knows by ids that we gave it. Every method
 * writes a payload into the reply and returns its size, or a negative errno; it may throw a LazypullError for bad metadata.
 * Ids follow from the metadata alone, so that a server which takes over gives the same ones, and none is ever forgotten.
 */
export interface Nodes {
  lookup(parent: number, name: Uint8Array, reply: Reply): number;
  getattr(node: number, reply: Reply): number;
  readlink(node: number, reply: Reply): number;
  /** ENOSYS: no file needs to be opened, and the kernel keeps what it has read. */
  open(node: number, reply: Reply): number;
  /** Names from `offset` on, up to `size` bytes; with attributes if `plus`. */
  readdir(node: number, offset: number, size: number, plus: boolean, reply: Reply): number;
  statfs(reply: Reply): number;
  /** `size` 0 asks how large the value is. */
  getxattr(node: number, name: Uint8Array, size: number, reply: Reply): number;
  /** `trusted`: also names that only root sees. */
  listxattr(node: number, size: number, trusted: boolean, reply: Reply): number;
  /** Where bytes of a file are, up to its end: on devices from 1, in the metadata (0) or nowhere. */
  content(node: number, offset: number, length: number): readonly DeviceRun[];
  /** Whether files have POSIX ACLs that the kernel should go by. */
  hasAcls(): boolean;
}
