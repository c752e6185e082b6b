import { createHash } from 'node:crypto';
import { readU64LE } from '../../core/bytes.ts';
import { PAGE_SIZE, PageSet } from './pages.ts';
import type { PagePart } from './torn-pages.ts';

/** What a cache file is known to hold on disk: written next to it once it is. */
export interface Presence {
  /** Bytes of the device. */
  readonly size: number;
  /** Nothing will be taken out of the file any more; it is only removed as a whole. */
  readonly sealed: boolean;
  /** All bytes are in the file. Those that are not in the list are still to be proven by the layer's index. */
  readonly whole: boolean;
  /** Runs of pages [from, to), ascending. */
  readonly runs: readonly (readonly [number, number])[];
  /** Bytes of further pages. */
  readonly parts: readonly PagePart[];
}

// magic u32, version u32, flags u32, runs u32, parts u32, size u64; runs: from u32, to u32; parts: page u32, from u16, to u16;
// sha256 of all that. Little-endian.
const MAGIC = 0x4750_5a4c;
const VERSION = 1;
const SEALED = 1;
const WHOLE = 2;
const HEAD = 28;
const ITEM = 8;
const SUM = 32;
/** Runs and parts of one file: 128 MiB of them. */
const MAX_ITEMS = 1 << 24;

export function encodePresence({ size, sealed, whole, runs, parts }: Presence): Uint8Array {
  const bytes = Buffer.alloc(HEAD + ITEM * (runs.length + parts.length) + SUM);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeUInt32LE((sealed ? SEALED : 0) | (whole ? WHOLE : 0), 8);
  bytes.writeUInt32LE(runs.length, 12);
  bytes.writeUInt32LE(parts.length, 16);
  bytes.writeBigUInt64LE(BigInt(size), 20);
  let at = HEAD;
  for (const [from, to] of runs) {
    bytes.writeUInt32LE(from, at);
    bytes.writeUInt32LE(to, at + 4);
    at += ITEM;
  }
  for (const { page, from, to } of parts) {
    bytes.writeUInt32LE(page, at);
    bytes.writeUInt16LE(from, at + 4);
    bytes.writeUInt16LE(to, at + 6);
    at += ITEM;
  }
  bytes.set(createHash('sha256').update(bytes.subarray(0, at)).digest(), at);
  return bytes;
}

/** Undefined for anything that is not exactly what `encodePresence` makes: nothing is then known to be there. */
export function decodePresence(bytes: Uint8Array): Presence | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < HEAD + SUM || buffer.readUInt32LE(0) !== MAGIC || buffer.readUInt32LE(4) !== VERSION) return undefined;
  const [flags, runCount, partCount] = [buffer.readUInt32LE(8), buffer.readUInt32LE(12), buffer.readUInt32LE(16)];
  const end = HEAD + ITEM * (runCount + partCount);
  if (runCount + partCount > MAX_ITEMS || buffer.length !== end + SUM) return undefined;
  if (!createHash('sha256').update(buffer.subarray(0, end)).digest().equals(buffer.subarray(end))) return undefined;
  const size = readU64LE(buffer, 20);
  const pages = size / PAGE_SIZE;
  const runs: (readonly [number, number])[] = [];
  let reached = 0;
  let at = HEAD;
  for (let i = 0; i < runCount; i += 1, at += ITEM) {
    const [from, to] = [buffer.readUInt32LE(at), buffer.readUInt32LE(at + 4)];
    if (from < reached || to <= from || to > pages) return undefined;
    reached = to;
    runs.push([from, to]);
  }
  const parts: PagePart[] = [];
  for (let i = 0; i < partCount; i += 1, at += ITEM) {
    const part = { page: buffer.readUInt32LE(at), from: buffer.readUInt16LE(at + 4), to: buffer.readUInt16LE(at + 6) };
    if (part.page >= pages || part.from >= part.to || part.to > PAGE_SIZE) return undefined;
    parts.push(part);
  }
  return { size, sealed: (flags & SEALED) !== 0, whole: (flags & WHOLE) !== 0, runs, parts };
}

/** What two processes together know to be in one file. */
export function mergePresence(own: Presence, other: Presence | undefined): Presence {
  if (!other) return own;
  const pages = new PageSet(own.size / PAGE_SIZE);
  for (const { runs } of [own, other]) for (const [from, to] of runs) pages.add(from, to);
  const parts = new Map([...other.parts, ...own.parts].filter(({ page }) => !pages.has(page)).map((part) => [`${part.page} ${part.from} ${part.to}`, part]));
  return { size: own.size, sealed: own.sealed || other.sealed, whole: own.whole || other.whole, runs: [...pages.runs()], parts: [...parts.values()] };
}
