import { concat } from '../core/bytes.ts';
import { corrupt, throwIfAborted } from '../core/errors.ts';
import type { ByteStream } from '../core/types.ts';
import { crc32 } from './crc32.ts';
import { deflateRaw } from './deflate.ts';
import { GunzipMachine, type GunzipOptions } from './gunzip-machine.ts';
import { gzipHeader, gzipTrailer, parseGzipHeader } from './gzip-header.ts';
import { inflateRaw, type Part } from './inflate.ts';

export { gzipHeader, gzipTrailer, parseGzipHeader, type GzipHeader } from './gzip-header.ts';
export type { GunzipOptions, GzipBlock, GzipMember, GzipTrailer } from './gunzip-machine.ts';

/**
 * Inflates a gzip stream of any number of members (RFC 1952) in bounded memory. Yields lent views of about 1 MiB.
 * Truncated or broken input, trailing garbage and checksum mismatches are CORRUPT with their offset in the gzip stream;
 * more than `maxSize` bytes is LIMIT. The next piece of input is asked for while the present one is decoded.
 */
export async function* gunzip(stream: ByteStream, options: GunzipOptions & { readonly signal?: AbortSignal } = {}): AsyncGenerator<Uint8Array> {
  const iterator = stream[Symbol.asyncIterator]();
  const machine = new GunzipMachine(options);
  try {
    let next = iterator.next();
    for (;;) {
      throwIfAborted(options.signal);
      const { done, value } = await next;
      throwIfAborted(options.signal);
      if (done) break;
      let rest: Uint8Array = value;
      do {
        rest = rest.subarray(machine.feed(rest));
        if (rest.length === 0) {
          // All of it is copied, so what was lent may be taken back.
          next = iterator.next();
          // An error is met by the await above; until then it must not count as unhandled.
          next.catch(() => {});
        }
        for (let bytes = machine.step(); bytes; bytes = machine.step()) yield bytes;
      } while (rest.length > 0);
    }
    machine.end();
    for (let bytes = machine.step(); bytes; bytes = machine.step()) yield bytes;
  } catch (error) {
    const bytes = machine.told();
    if (bytes) yield bytes;
    throw error;
  } finally {
    machine.close();
    await iterator.return?.();
  }
}

/** Inflates a whole gzip file in memory; more than `limit` bytes is LIMIT. */
export function gunzipAll(packed: Uint8Array, limit: number, what = 'gzip data'): Uint8Array {
  const machine = new GunzipMachine({ maxSize: limit, what });
  try {
    const parts: Uint8Array[] = [];
    let fed = 0;
    do {
      fed += machine.feed(packed.subarray(fed));
      if (fed === packed.length) machine.end();
      for (let bytes = machine.step(); bytes; bytes = machine.step()) parts.push(new Uint8Array(bytes));
    } while (fed < packed.length);
    return concat(parts);
  } finally {
    machine.close();
  }
}

/**
 * Inflates the wanted part of the gzip member at the start of `packed`. Neither the rest of the member nor its trailer is
 * looked at: a chunk has its own digest. A member that is broken or too short is CORRUPT.
 */
export function gunzipMember(packed: Uint8Array, part: Part, what = 'gzip member'): Uint8Array {
  const header = parseGzipHeader(packed, what);
  if (!header) throw corrupt(`${what}: the gzip header ends early`, { offset: packed.length });
  return inflateRaw(packed.subarray(header.size), part, what);
}

/** Compresses `input` into one complete gzip member; the result belongs to the caller. Same input and level, same bytes. */
export function gzipMember(input: Uint8Array, level: number): Uint8Array {
  return concat([gzipHeader(level), deflateRaw(input, level), gzipTrailer(crc32(input), input.length)]);
}
