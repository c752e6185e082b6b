import { constants, crc32, deflateRawSync, type ZlibOptions } from 'node:zlib';
import * as pako from 'pako';
import { concat } from '../../src/core/bytes.ts';

/** A way to have stored a tar as gzip. */
export interface GzipLayout {
  /** Says how it was made. */
  readonly name: string;
  readonly packed: Uint8Array;
  /** What it inflates to: the tar that was given, with padding behind it in some layouts. */
  readonly tar: Uint8Array;
  /** Gzip members, empty ones included. */
  readonly members: number;
  /** Deflate blocks without output stand in front of the first byte of output, or an empty member does. */
  readonly emptyStart: boolean;
  /** Zero bytes behind the last gzip member. */
  readonly zeros: number;
}

type Random = (below: number) => number;

/** One way of deflating: raw deflate, complete. */
interface Deflater {
  readonly name: string;
  deflate(bytes: Uint8Array, random: Random): Uint8Array;
}

const { Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK, Z_FINISH, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE, Z_FILTERED } = constants;
/** An empty stored block that is not the last. */
const EMPTY = Uint8Array.of(0, 0, 0, 0xff, 0xff);

const DEFLATERS: readonly Deflater[] = [
  ...[0, 1, 3, 6, 9].map((level) => native(`level ${level}`, { level })),
  native('small memory', { level: 6, memLevel: 1 }),
  native('small window', { level: 9, windowBits: 9, memLevel: 2 }),
  native('middle window', { level: 4, windowBits: 12, memLevel: 5 }),
  native('large memory', { level: 9, memLevel: 9 }),
  native('fixed codes', { level: 6, strategy: Z_FIXED }),
  native('Huffman only', { strategy: Z_HUFFMAN_ONLY, memLevel: 3 }),
  native('run lengths', { strategy: Z_RLE, memLevel: 7 }),
  native('filtered', { strategy: Z_FILTERED, memLevel: 4 }),
  { name: 'flushed', deflate: (bytes, random) => flushed(bytes, random, [Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK]) },
  { name: 'flushed between bytes', deflate: (bytes, random) => flushed(bytes, random, [Z_PARTIAL_FLUSH, Z_BLOCK]) },
  { name: 'pieces, each with the window before it', deflate: (bytes, random) => inPieces(bytes, random, [{ level: 6 }], true) },
  { name: 'pieces on their own', deflate: (bytes, random) => inPieces(bytes, random, [{ level: 6 }], false) },
  { name: 'pieces of all kinds of blocks', deflate: (bytes, random) => inPieces(bytes, random, [{ level: 0 }, { strategy: Z_FIXED }, { level: 9 }, { memLevel: 1 }], true) },
  { name: 'stored blocks of any size', deflate: stored },
  { name: 'one block', deflate: oneBlock },
];

/**
 * `count` ways to store a tar as gzip, the same for the same seed: levels, strategies, windows, flushes on and between bytes,
 * stored, fixed and dynamic blocks, empty blocks, members of any size, all header fields, padding of the tar and of the file.
 */
export function* gzipLayouts(tar: Uint8Array, { count = 200, seed = 1 }: { readonly count?: number; readonly seed?: number } = {}): Generator<GzipLayout> {
  for (let i = 0; i < count; i++) yield gzipLayout(tar, i, randomFrom(seed * 7919 + i));
}

/** `index` chooses the way of deflating, so that any run of layouts has all of them. */
function gzipLayout(plain: Uint8Array, index: number, random: Random): GzipLayout {
  const padding = random(4) === 0 ? 512 * (1 + random(random(2) === 0 ? 4 : 300)) : 0;
  const tar = padding > 0 ? concat([plain, new Uint8Array(padding)]) : plain;
  const first = DEFLATERS[index % DEFLATERS.length] as Deflater;
  const pieces = random(5) < 3 ? [tar] : cutAtRandom(tar, random);
  const names: string[] = [];
  const parts: Uint8Array[] = [];
  let emptyStart = false;
  for (const [i, piece] of pieces.entries()) {
    const deflater = i === 0 || random(2) === 0 ? first : (DEFLATERS[random(DEFLATERS.length)] as Deflater);
    const empties = random(8) === 0 ? 1 + random(3) : 0;
    const deflated = deflater.deflate(piece, random);
    emptyStart ||= i === 0 && (empties > 0 || piece.length === 0 || beginsEmpty(deflated));
    if (names.at(-1) !== deflater.name) names.push(deflater.name);
    parts.push(header(random), ...Array.from({ length: empties }, () => EMPTY), deflated, trailer(piece));
  }
  const zeros = random(10) === 0 ? 1 + random(3000) : 0;
  parts.push(new Uint8Array(zeros));
  const shown = names.length > 3 ? [...names.slice(0, 3), '...'] : names;
  const extras = [pieces.length > 1 && `${pieces.length} members`, emptyStart && 'empty start', padding > 0 && `tar padding ${padding}`, zeros > 0 && `${zeros} zeros`].filter(Boolean);
  return { name: `${index}: ${[shown.join(', '), ...extras].join('; ')}`, packed: concat(parts), tar, members: pieces.length, emptyStart, zeros };
}

/** Whether the first deflate block has no content: an empty stored block, or a fixed one that ends at once. */
function beginsEmpty(deflated: Uint8Array): boolean {
  const [head = 0, second = 0, third = 0] = deflated;
  const type = (head >> 1) & 3;
  return type === 0 ? second === 0 && third === 0 : type === 1 && head >> 3 === 0 && (second & 3) === 0;
}

/** Members: a few of similar size, or many tiny ones around a large one; some are empty. */
function cutAtRandom(bytes: Uint8Array, random: Random): Uint8Array[] {
  const cuts = new Set<number>();
  const tiny = random(3) === 0;
  const from = random(bytes.length);
  for (let n = tiny ? 5 + random(40) : 1 + random(5); n > 0; n--) cuts.add(tiny ? Math.min(bytes.length, from + random(20_000)) : random(bytes.length + 1));
  const places = [...cuts].sort((a, b) => a - b);
  const pieces = [...places, bytes.length].map((end, i) => bytes.subarray(places[i - 1] ?? 0, end));
  for (let n = random(3); n > 0; n--) pieces.splice(random(pieces.length + 1), 0, new Uint8Array(0));
  return pieces;
}

function header(random: Random): Uint8Array {
  const name = random(3) === 0 ? bytesUpTo(60, random, 1) : undefined;
  const comment = random(6) === 0 ? bytesUpTo(400, random, 1) : undefined;
  const extra = random(6) === 0 ? bytesUpTo(random(4) === 0 ? 60_000 : 80, random, 0) : undefined;
  const sum = random(6) === 0;
  const flags = (random(8) === 0 ? 1 : 0) | (sum ? 2 : 0) | (extra ? 4 : 0) | (name ? 8 : 0) | (comment ? 16 : 0);
  const parts: Uint8Array[] = [Uint8Array.of(0x1f, 0x8b, 8, flags, random(256), random(256), random(256), random(256), [0, 2, 4][random(3)] as number, random(2) === 0 ? 3 : 255)];
  if (extra) parts.push(Uint8Array.of(extra.length & 255, extra.length >> 8), extra);
  for (const text of [name, comment]) if (text) parts.push(text, new Uint8Array(1));
  const all = concat(parts);
  const check = crc32(all);
  return sum ? concat([all, Uint8Array.of(check & 255, (check >> 8) & 255)]) : all;
}

function trailer(plain: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(crc32(plain));
  bytes.writeUInt32LE(plain.length, 4);
  return bytes;
}

function native(name: string, options: ZlibOptions): Deflater {
  return { name, deflate: (bytes) => deflateRawSync(bytes, options) };
}

/** One stream, flushed at random places: also before the first byte, and twice at one place. */
function flushed(bytes: Uint8Array, random: Random, kinds: readonly number[]): Uint8Array {
  const deflater = new pako.Deflate({ raw: true, level: 1 + random(9), memLevel: 1 + random(9), windowBits: 9 + random(7) });
  const mean = 200 + random(30_000);
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + random(2 * mean));
    deflater.push(bytes.subarray(at, end), kinds[random(kinds.length)] as pako.Z_FlushMode);
    at = end;
  }
  deflater.push(new Uint8Array(0), Z_FINISH as pako.Z_FlushMode);
  return deflater.result as Uint8Array;
}

/** Pieces deflated one by one and joined on byte boundaries, as pigz does it. */
function inPieces(bytes: Uint8Array, random: Random, kinds: readonly ZlibOptions[], linked: boolean): Uint8Array {
  const parts: Uint8Array[] = [];
  const mean = 1000 + random(60_000);
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random(2 * mean));
    const dictionary = linked && at > 0 ? { dictionary: bytes.subarray(Math.max(0, at - 32_768), at) } : {};
    parts.push(deflateRawSync(bytes.subarray(at, end), { ...kinds[random(kinds.length)], ...dictionary, finishFlush: Z_SYNC_FLUSH }));
    at = end;
  }
  return concat([...parts, Uint8Array.of(3, 0)]);
}

/** Stored blocks of 0 to 65 535 bytes. */
function stored(bytes: Uint8Array, random: Random): Uint8Array {
  const parts: Uint8Array[] = [];
  let at = 0;
  do {
    const size = Math.min(bytes.length - at, random(6) === 0 ? 0 : random(4) === 0 ? 0xffff : random(20_000));
    const last = at + size === bytes.length;
    parts.push(Uint8Array.of(last ? 1 : 0, size & 255, size >> 8, ~size & 255, (~size >> 8) & 255), bytes.subarray(at, at + size));
    at += size;
    if (last) break;
  } while (at <= bytes.length);
  return concat(parts);
}

/** A single block of fixed codes, literals only, however long. */
function oneBlock(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil((10 + bytes.length * 9) / 8));
  let at = 0;
  // Codes are written from their highest bit on (RFC 1951 §3.1.1).
  const put = (code: number, size: number): void => {
    for (let bit = size - 1; bit >= 0; bit--, at++) if ((code >> bit) & 1) out[at >> 3] = (out[at >> 3] as number) | (1 << (at & 7));
  };
  put(0b110, 3);
  for (const byte of bytes) {
    if (byte < 144) put(0x30 + byte, 8);
    else put(0x100 + byte, 9);
  }
  put(0, 7);
  return out.subarray(0, (at + 7) >> 3);
}

function bytesUpTo(limit: number, random: Random, lowest: number): Uint8Array {
  return Uint8Array.from({ length: random(limit) }, () => lowest + random(256 - lowest));
}

/** Whole numbers below a limit, the same in every run. */
function randomFrom(seed: number): Random {
  let state = Math.imul(seed, 0x9e37_79b1) >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}
