import { Builder } from 'flatbuffers';
import { readU64LE } from '../../src/core/bytes.ts';
import { corrupt } from '../../src/core/errors.ts';
import { FlatBuffer } from './flatbuffer.ts';
import { NO_WINDOW, WINDOW_SIZE, type Checkpoint, type SpanInfo, type SpanRange, type Ztoc } from './layout.ts';

// The `checkpoints` field of a zTOC (notes §3, §4), and the spans that follow from it.

/** For gzip: number of checkpoints (int32) and span size (int64), then the records. */
const HEAD_SIZE = 12;
/** A record: in (int64), out (int64), bits (uint8), window. */
const RECORD_SIZE = 17 + WINDOW_SIZE;
/** TarZinfo.version. */
const TAR_VERSION = 2;
/** What records of zTOCs from before soci 0.1 leave out, notes §3.1. */
const IMPLIED: Checkpoint = { in: 10, out: 0, bits: 0, window: NO_WINDOW };

/** Bytes that `writeZinfo` writes. */
export function zinfoSize(spans: SpanInfo): number {
  return spans.algorithm === 'gzip' ? HEAD_SIZE + RECORD_SIZE * spans.checkpoints.length : encodeTarZinfo(spans).length;
}

/** Writes the field to the start of `target`, which has `zinfoSize` bytes there. */
export function writeZinfo(spans: SpanInfo, target: Uint8Array): void {
  if (spans.algorithm === 'uncompressed') {
    target.set(encodeTarZinfo(spans));
    return;
  }
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  view.setInt32(0, spans.checkpoints.length, true);
  view.setBigInt64(4, BigInt(spans.spanSize), true);
  let at = HEAD_SIZE;
  for (const checkpoint of spans.checkpoints) {
    view.setBigInt64(at, BigInt(checkpoint.in), true);
    view.setBigInt64(at + 8, BigInt(checkpoint.out), true);
    view.setUint8(at + 16, checkpoint.bits);
    target.set(checkpoint.window, at + 17);
    at += RECORD_SIZE;
  }
}

export function encodeZinfo(spans: SpanInfo): Uint8Array {
  const bytes = new Uint8Array(zinfoSize(spans));
  writeZinfo(spans, bytes);
  return bytes;
}

function encodeTarZinfo(spans: { readonly spanSize: number; readonly size: number }): Uint8Array {
  const builder = new Builder(64);
  builder.startObject(3);
  builder.addFieldInt32(0, TAR_VERSION, 0);
  builder.addFieldInt64(1, BigInt(spans.spanSize), 0n);
  builder.addFieldInt64(2, BigInt(spans.size), 0n);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

/** Decodes the field; windows are views. Breaches of its layout are CORRUPT. */
export function decodeZinfo(bytes: Uint8Array, algorithm: SpanInfo['algorithm'], what: string): SpanInfo {
  if (algorithm === 'uncompressed') {
    const root = new FlatBuffer(bytes, `${what}: span table`).root();
    const spanSize = root.size(1, 'span size');
    if (spanSize === 0) throw corrupt(`${what}: the span size is 0`);
    return { algorithm, spanSize, size: root.size(2, 'size') };
  }
  if (bytes.length < HEAD_SIZE) throw corrupt(`${what}: checkpoints of ${bytes.length} bytes are none`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getInt32(0, true);
  const stored = (bytes.length - HEAD_SIZE) / RECORD_SIZE;
  // One record fewer than there are checkpoints: the first one is implied.
  if (count < 1 || (stored !== count && stored !== count - 1)) throw corrupt(`${what}: ${count} checkpoints do not take ${bytes.length} bytes`);
  const spanSize = readU64LE(bytes, 4, `${what}: span size`);
  const checkpoints: Checkpoint[] = stored === count ? [] : [IMPLIED];
  for (let at = HEAD_SIZE; at < bytes.length; at += RECORD_SIZE) {
    const bits = view.getUint8(at + 16);
    const start = readU64LE(bytes, at, `${what}: stored offset of checkpoint ${checkpoints.length}`);
    if (bits > 7 || (bits > 0 && start === 0)) throw corrupt(`${what}: checkpoint ${checkpoints.length} has ${bits} unread bits in front of byte ${start}`);
    checkpoints.push({
      in: start,
      out: readU64LE(bytes, at + 8, `${what}: tar offset of checkpoint ${checkpoints.length}`),
      bits,
      window: bytes.subarray(at + 17, at + RECORD_SIZE),
    });
  }
  return { algorithm, spanSize, checkpoints };
}

/** How many spans there are, notes §4 for plain tar. */
export function spanCount(spans: SpanInfo): number {
  return spans.algorithm === 'gzip' ? spans.checkpoints.length : Math.ceil(spans.size / spans.spanSize);
}

/** Stored offset of a span's first byte; the last bits of it may belong to the span before. */
export function packedStart(checkpoint: Checkpoint): number {
  return checkpoint.bits === 0 ? checkpoint.in : checkpoint.in - 1;
}

/**
 * Where each span lies, notes §3.3 and §4. Neighbours share a stored byte where a checkpoint is inside one. The last span may
 * begin at or behind the end of the archive, of a plain tar the last few: those have no tar bytes that anybody needs.
 */
export function spanRanges({ spans, packedSize, tarSize }: Pick<Ztoc, 'spans' | 'packedSize' | 'tarSize'>): SpanRange[] {
  if (spans.algorithm === 'gzip') {
    return spans.checkpoints.map((checkpoint, i): SpanRange => {
      const next = spans.checkpoints[i + 1];
      return { packedStart: packedStart(checkpoint), packedEnd: next?.in ?? packedSize, tarStart: checkpoint.out, tarEnd: next?.out ?? Math.max(checkpoint.out, tarSize) };
    });
  }
  return Array.from({ length: spanCount(spans) }, (_, i): SpanRange => {
    const start = i * spans.spanSize;
    const end = Math.min(start + spans.spanSize, packedSize);
    return { packedStart: start, packedEnd: end, tarStart: Math.min(start, tarSize), tarEnd: Math.min(end, tarSize) };
  });
}

/** Notes §6.3, rules 1 and 3: as many spans as digests, one behind the other, none but the last empty, all within the layer. */
export function checkSpans(ztoc: Pick<Ztoc, 'spans' | 'packedSize' | 'tarSize'>, maxSpanId: number, digests: number, what: string): void {
  const { spans, packedSize, tarSize } = ztoc;
  const count = spanCount(spans);
  if (count !== maxSpanId + 1 || count !== digests) throw corrupt(`${what}: ${count} spans, but the last one is said to be ${maxSpanId} and there are ${digests} digests`);
  if (spans.algorithm === 'uncompressed') {
    if (spans.size !== packedSize) throw corrupt(`${what}: a plain tar of ${spans.size} bytes in a layer of ${packedSize}`);
    if (tarSize > packedSize) throw corrupt(`${what}: the tar ends at ${tarSize}, the layer at ${packedSize}`);
    return;
  }
  if (spans.checkpoints[0]?.out !== 0) throw corrupt(`${what}: no span holds the beginning of the tar`);
  const ranges = spanRanges(ztoc);
  ranges.forEach((range, i) => {
    const last = i === ranges.length - 1;
    const packed = range.packedEnd - range.packedStart;
    const tar = range.tarEnd - range.tarStart;
    if (last ? packed < 0 : packed <= 0 || tar <= 0) {
      throw corrupt(`${what}: span ${i} is stored at [${range.packedStart}, ${range.packedEnd}) and holds [${range.tarStart}, ${range.tarEnd}) of the tar`);
    }
  });
}
