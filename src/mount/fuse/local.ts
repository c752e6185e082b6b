import { corrupt } from '../../core/errors.ts';
import type { DeviceRun } from '../../erofs/place.ts';
import type { Served, ServedDevice } from '../types.ts';

const PAGE = 4096;
/** What `ServedDevice.touched` has one byte for. */
const REGION = 4 << 20;

/** Reads bytes of a file at an offset: how many, or a negative errno. */
export type ReadAt = (fd: number, target: Uint8Array, offset: number) => number;

/** The content that is on this machine already. */
export class LocalContent {
  readonly #metadata: Uint8Array;
  readonly #devices: readonly { readonly device: ServedDevice; readonly present: Uint8Array; readonly touched: Uint8Array | undefined }[];
  readonly #readAt: ReadAt;

  constructor({ metadata, devices }: Served, readAt: ReadAt) {
    this.#metadata = new Uint8Array(metadata);
    this.#devices = devices.map((device) => ({ device, present: new Uint8Array(device.present), touched: device.touched && new Uint8Array(device.touched) }));
    this.#readAt = readAt;
  }

  /** Fills the target; false when some of it is not here. CORRUPT when there is no such place. */
  read({ device, offset, length }: DeviceRun, target: Uint8Array): boolean {
    if (device === undefined) {
      target.fill(0);
      return true;
    }
    if (device === 0) {
      const bytes = this.#metadata.subarray(offset, offset + length);
      target.set(bytes);
      target.fill(0, bytes.length);
      return true;
    }
    const found = this.#devices[device - 1];
    if (!found || offset + length > roundToPage(found.device.size)) throw corrupt(`content of ${length} bytes on device ${device} of ${this.#devices.length} is outside of it`, { offset });
    const first = Math.floor(offset / PAGE);
    const last = Math.floor((offset + length - 1) / PAGE);
    if (!all(found.present, first, last)) return false;
    // Looked at once more: what was dropped meanwhile has been read as zeros. Failures are the other thread's, too.
    if (this.#readAt(found.device.fd, target, offset) !== length || !all(found.present, first, last)) return false;
    if (found.touched) touch(found.touched, offset, length);
    return true;
  }
}

function roundToPage(size: number): number {
  return Math.ceil(size / PAGE) * PAGE;
}

/** A plain store would do: whoever reads it may see it late, and a write that is there already costs the other side its cache line. */
function touch(touched: Uint8Array, offset: number, length: number): void {
  const last = Math.min(touched.length - 1, Math.floor((offset + length - 1) / REGION));
  for (let region = Math.floor(offset / REGION); region <= last; region += 1) if (touched[region] !== 1) touched[region] = 1;
}

/** Whether bits `[first, last]` are all set; bits that the map does not have are not. */
function all(present: Uint8Array, first: number, last: number): boolean {
  const start = Math.floor(first / 8);
  const end = Math.floor(last / 8);
  if (end >= present.length) return false;
  for (let byte = start; byte <= end; byte += 1) {
    const mask = (byte === start ? 0xff << (first % 8) : 0xff) & (byte === end ? 0xff >> (7 - (last % 8)) : 0xff);
    if ((Atomics.load(present, byte) & mask) !== mask) return false;
  }
  return true;
}
