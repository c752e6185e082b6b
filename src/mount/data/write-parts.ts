import type { FileHandle } from 'node:fs/promises';

/** Bytes for a device's file. */
export interface StoredPart {
  readonly address: number;
  readonly bytes: Uint8Array;
  /** Bytes from `address` on that are known by this: those behind `bytes` are zeros. */
  readonly cover: number;
}

const ZEROS = new Uint8Array(4096);
/** Buffers of one call (IOV_MAX is 1024), and bytes. */
const MAX_BUFFERS = 512;
const MAX_BYTES = 16 << 20;

/**
 * Writes parts where they belong; parts that follow each other closely take one system call together. Zeros are written only
 * between them: elsewhere the file has never had anything else.
 */
export async function writeParts(file: FileHandle, parts: readonly StoredPart[]): Promise<void> {
  let start = 0;
  let end = 0;
  let size = 0;
  let buffers: Uint8Array[] = [];
  const flush = async (): Promise<void> => {
    if (size > 0) await writeAll(file, buffers, start, size);
    buffers = [];
    size = 0;
  };
  for (const { address, bytes, cover } of parts) {
    if (bytes.length === 0) continue;
    const gap = address - (start + size);
    if (size > 0 && (address !== end || gap > ZEROS.length || buffers.length + 2 > MAX_BUFFERS || size > MAX_BYTES)) await flush();
    if (size === 0) {
      start = address;
    } else if (gap > 0) {
      buffers.push(ZEROS.subarray(0, gap));
      size += gap;
    }
    buffers.push(bytes);
    size += bytes.length;
    end = address + cover;
  }
  await flush();
}

async function writeAll(file: FileHandle, buffers: Uint8Array[], start: number, size: number): Promise<void> {
  let left = buffers;
  for (let done = 0; done < size; ) {
    const { bytesWritten } = await file.writev(left, start + done);
    done += bytesWritten;
    if (done < size) left = behind(left, bytesWritten);
  }
}

/** What is left of some buffers when their first bytes are written. */
function behind(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  let first = 0;
  while (skip >= (buffers[first] as Uint8Array).length) {
    skip -= (buffers[first] as Uint8Array).length;
    first += 1;
  }
  return [(buffers[first] as Uint8Array).subarray(skip), ...buffers.slice(first + 1)];
}
