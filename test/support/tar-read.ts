import { concat } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { ByteStream } from '../../src/core/types.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { checkPath } from '../../src/tar/path.ts';
import { TarReader, type TarReaderOptions } from '../../src/tar/read.ts';

export interface ReadEntry {
  readonly entry: TarEntry;
  readonly body: Uint8Array;
}

/**
 * Bytes cut into pieces of these sizes, over and over. Every piece's memory is overwritten once the next is asked for: lent
 * means lent. Pieces are Buffers, as from files and sockets, whose `slice` is no copy.
 */
export async function* inPieces(bytes: Uint8Array, sizes: readonly number[]): ByteStream {
  let at = 0;
  for (let i = 0; at < bytes.length; i += 1) {
    const piece = Buffer.from(bytes.subarray(at, at + Math.max(0, sizes[i % sizes.length] as number)));
    at += piece.length;
    yield piece;
    piece.fill(0xaa);
  }
}

export function asStream(input: Uint8Array | ByteStream): ByteStream {
  return input instanceof Uint8Array ? inPieces(input, [64 * 1024]) : input;
}

/** Reads an archive through: every header, every payload, the trailer. */
export async function readTar(input: Uint8Array | ByteStream, options: TarReaderOptions & { checkPaths?: boolean; raw?: boolean } = {}): Promise<{ entries: ReadEntry[]; trailer: Uint8Array }> {
  const reader = new TarReader(asStream(input), options);
  const entries: ReadEntry[] = [];
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    if (options.checkPaths) checkPath(entry);
    entries.push({ entry, body: await gather(options.raw ? reader.rawBody() : reader.body()) });
  }
  return { entries, trailer: await gather(reader.trailer()) };
}

export async function gather(stream: ByteStream): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const bytes of stream) parts.push(new Uint8Array(bytes));
  return concat(parts);
}

/** 'ok', or the code of the error it ends with; anything but a LazypullError is passed on. */
export async function outcome(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
    return 'ok';
  } catch (error) {
    if (error instanceof LazypullError) return error.code;
    throw error;
  }
}
