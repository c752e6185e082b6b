import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { Builder } from 'flatbuffers';
import { decodeName } from '../../../src/core/bytes.ts';
import type { Digest } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { encodeZinfo, spanRanges } from '../../../formats/soci/zinfo.ts';
import { decodeZtoc, encodeZtoc } from '../../../formats/soci/ztoc.ts';
import type { Checkpoint, RecordType, Ztoc, ZtocRecord } from '../../../formats/soci/layout.ts';
import { entries, archive } from '../../support/tar-blocks.ts';
import { directory, file, hardlink } from '../../support/tar-corpus.ts';
import { indexed } from './made-by-writer.ts';
import { madeZtoc } from './made-ztoc.ts';

const digest = (n: number): Digest => `sha256:${n.toString(16).padStart(64, '0')}`;
const name = fc.uint8Array({ maxLength: 40 }).map((bytes) => decodeName(bytes));
const size = fc.oneof(fc.nat(1 << 20), fc.maxSafeInteger().map(Math.abs));
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const record: fc.Arbitrary<ZtocRecord> = fc.record({
  name,
  type: fc.constantFrom<RecordType>('reg', 'hardlink', 'symlink', 'char', 'block', 'dir', 'fifo'),
  offset: fc.constant(0),
  size,
  linkName: name,
  mode: size,
  uid: uint32,
  gid: uint32,
  userName: name,
  groupName: name,
  modTime: fc.constantFrom('', '2023-11-14T22:13:20.25Z'),
  major: size,
  minor: size,
  pax: fc.array(fc.tuple(name, fc.uint8Array({ maxLength: 20 })), { maxLength: 4 }).map((pairs) => new Map(pairs.map(([key, value]) => [key, value] as const))),
});

function gzipZtoc(records: readonly ZtocRecord[], checkpoints: readonly Checkpoint[], packedSize: number, tarSize: number, spanSize = 512): Ztoc {
  return { buildTool: 'test', packedSize, tarSize, records, spans: { algorithm: 'gzip', spanSize, checkpoints }, spanDigests: checkpoints.map((_, i) => digest(i)) };
}

const window = (fill: number): Uint8Array => new Uint8Array(32_768).fill(fill);
const point = (start: number, out: number, bits = 0): Checkpoint => ({ in: start, out, bits, window: window(out & 0xff) });

/** Maps of equal content, whatever the order and the class of their values. */
function plain(ztoc: Ztoc): unknown {
  const bytes = (value: Uint8Array): string => Buffer.from(value).toString('latin1');
  return JSON.parse(JSON.stringify(ztoc, (_, value: unknown) => (value instanceof Map ? [...value].map(([key, v]) => [key, bytes(v as Uint8Array)]).sort() : value instanceof Uint8Array ? bytes(value) : value)));
}

function rejected(run: () => unknown, message: RegExp): void {
  assert.throws(run, (error) => error instanceof LazypullError && error.code === 'CORRUPT' && message.test(error.message));
}

describe('zTOC', () => {
  it('comes back as it was encoded, whatever is in it', () => {
    fc.assert(fc.property(fc.array(record, { maxLength: 12 }), fc.nat(5), fc.boolean(), (made, count, gzip) => {
      const records = made.map((one, i) => ({ ...one, offset: (i + 1) * 512 }));
      const checkpoints = Array.from({ length: count + 1 }, (_, i) => point(10 + i * 100, i * 1000, i % 8));
      const ztoc: Ztoc = gzip
        ? gzipZtoc(records, checkpoints, 5000, 9000)
        : { buildTool: '', packedSize: 9000, tarSize: 8000, records, spans: { algorithm: 'uncompressed', spanSize: 4000, size: 9000 }, spanDigests: [digest(1), digest(2), digest(3)] };
      const bytes = encodeZtoc(ztoc);
      const decoded = decodeZtoc(bytes);
      assert.deepEqual(plain(decoded), plain(ztoc));
      assert.deepEqual(encodeZtoc(decoded), bytes);
    }), { numRuns: 60 });
  });

  it('numbers beyond 2 GiB and ids up to 2^32-1', () => {
    const [made] = madeZtoc([{ name: 'a' }]).records as [ZtocRecord];
    const ztoc = gzipZtoc([{ ...made, offset: 2 ** 40, size: 2 ** 50, uid: 0xffff_ffff, mode: 0o100644 }], [point(10, 0), point(2 ** 41, 2 ** 42, 7)], 2 ** 43, 2 ** 51);
    assert.deepEqual(plain(decodeZtoc(encodeZtoc(ztoc))), plain(ztoc));
  });

  it('without entries', () => {
    const ztoc = gzipZtoc([], [point(10, 0)], 30, 1024);
    assert.deepEqual(plain(decodeZtoc(encodeZtoc(ztoc))), plain(ztoc));
  });

  it('checkpoints from before soci 0.1 leave out the first', () => {
    const bytes = encodeZtoc(gzipZtoc([], [point(10, 0), point(200, 600)], 300, 1024));
    const all = Buffer.from(encodeZinfo({ algorithm: 'gzip', spanSize: 512, checkpoints: [point(10, 0), point(200, 600)] }));
    const at = Buffer.from(bytes).indexOf(all);
    assert.ok(at > 0);
    // Cut in place: the vector gets shorter by a record, and what is behind it stays where it is.
    const legacy = Buffer.from(bytes);
    legacy.writeUInt32LE(all.length - 32_785, at - 4);
    all.copy(legacy, at + 12, 12 + 32_785);
    const { spans } = decodeZtoc(legacy);
    assert.equal(spans.algorithm, 'gzip');
    if (spans.algorithm !== 'gzip') return;
    assert.deepEqual(spans.checkpoints.map(({ in: start, out, bits }) => [start, out, bits]), [[10, 0, 0], [200, 600, 0]]);
    assert.ok(spans.checkpoints[0]?.window.every((byte) => byte === 0));
    assert.ok(spans.checkpoints[1]?.window.every((byte) => byte === (600 & 0xff)));
  });

  it('a last span without tar bytes is read, as the soci CLI writes it', () => {
    const ztoc = gzipZtoc([], [point(10, 0), point(200, 1024), point(250, 2000)], 300, 1024);
    assert.deepEqual(spanRanges(decodeZtoc(encodeZtoc(ztoc))).at(-1), { packedStart: 250, packedEnd: 300, tarStart: 2000, tarEnd: 2000 });
  });
});

describe('spans that cannot be', () => {
  const cases: readonly (readonly [string, Ztoc, RegExp])[] = [
    ['one digest too few', { ...gzipZtoc([], [point(10, 0), point(20, 9)], 30, 20), spanDigests: [digest(0)] }, /2 spans.*1 digests/],
    ['an empty span in the middle', gzipZtoc([], [point(10, 0), point(20, 9), point(22, 9)], 30, 20), /span 1 .* holds \[9, 9\)/],
    ['backwards in the tar', gzipZtoc([], [point(10, 0), point(20, 9), point(22, 8)], 30, 20), /span 1/],
    ['backwards in the layer', gzipZtoc([], [point(20, 0), point(10, 9)], 30, 20), /span 0/],
    ['behind the layer', gzipZtoc([], [point(10, 0), point(31, 9)], 30, 20), /span 1 is stored at \[31, 30\)/],
    ['not from the start', gzipZtoc([], [point(10, 1)], 30, 20), /beginning/],
    ['bits of no byte', gzipZtoc([], [point(0, 0, 3)], 30, 20), /3 unread bits in front of byte 0/],
    ['eight bits', gzipZtoc([], [point(10, 0, 8)], 30, 20), /8 unread bits/],
    ['none', gzipZtoc([], [], 30, 20), /0 checkpoints/],
    ['tar of another size', { ...madeZtoc([]), packedSize: 2048 }, /plain tar of 1024 bytes in a layer of 2048/],
    ['tar that ends behind itself', { ...madeZtoc([]), tarSize: 2048 }, /ends at 2048/],
    ['another digest', { ...gzipZtoc([], [point(10, 0)], 30, 20), spanDigests: [`sha512:${'0'.repeat(128)}`] }, /digest of span 0 is/],
  ];
  for (const [what, ztoc, message] of cases) it(what, () => rejected(() => decodeZtoc(encodeZtoc(ztoc)), message));

  it('a span size of zero', () => {
    const { spans } = madeZtoc([]);
    assert.equal(spans.algorithm, 'uncompressed');
    // As the field that is a default, it is not stored; its digest list stays.
    const bytes = Buffer.from(encodeZtoc(madeZtoc([])));
    const at = bytes.indexOf(Buffer.from(encodeZinfo(spans)));
    bytes.writeBigInt64LE(0n, at + 32);
    rejected(() => decodeZtoc(bytes), /span size is 0/);
  });
});

/** Only errors of ours, and never much work. */
function survives(bytes: Uint8Array): 'ok' | 'refused' {
  try {
    const ztoc = decodeZtoc(bytes);
    assert.equal(spanRanges(ztoc).length, ztoc.spanDigests.length);
    return 'ok';
  } catch (error) {
    if (error instanceof LazypullError && error.code === 'CORRUPT') return 'refused';
    throw error;
  }
}

describe('bytes of strangers', () => {
  const layer = gzipSync(archive(entries(directory('d/'), file('d/a', 'hello', { xattrs: new Map([['user.k', Uint8Array.of(1, 2)]]) }), hardlink('b', 'd/a'))));

  it('changed at any place: the value or CORRUPT', async () => {
    const { bytes } = await indexed(layer);
    const zeros = Buffer.from(bytes).indexOf(new Uint8Array(32_768));
    let refused = 0;
    let runs = 0;
    // All but the window, which holds nothing to go wrong.
    const places = Array.from(bytes.keys()).filter((i) => i < zeros || i >= zeros + 32_760);
    for (const place of places) {
      for (const change of [(b: number) => b ^ 1, (b: number) => b ^ 0x80, () => 0xff, (b: number) => b + 4]) {
        const mutant = Buffer.from(bytes);
        mutant[place] = change(mutant[place] as number);
        refused += survives(mutant) === 'refused' ? 1 : 0;
        runs += 1;
      }
    }
    assert.ok(runs > 3000, `${runs} mutants`);
    assert.ok(refused > 500 && refused < runs, `${refused} of ${runs} refused`);
  });

  it('several changes, and words that are offsets made wild', async () => {
    const { bytes } = await indexed(layer);
    const interesting = fc.oneof(fc.nat(64), fc.constantFrom(bytes.length - 32_900), fc.nat(1000).map((n) => bytes.length - n));
    fc.assert(fc.property(fc.array(fc.tuple(interesting, fc.oneof(fc.nat(), fc.nat(40), fc.constantFrom(0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 4))), { minLength: 1, maxLength: 4 }), (changes) => {
      const mutant = Buffer.from(bytes);
      for (const [at, word] of changes) if (at >= 0 && at + 4 <= mutant.length) mutant.writeUInt32LE(word, at);
      survives(mutant);
    }), { numRuns: 1500 });
  });

  it('cut off anywhere, or none at all', async () => {
    const { bytes } = await indexed(layer);
    for (let n = 0; n < bytes.length; n += n < 300 || n > bytes.length - 800 ? 1 : 997) survives(bytes.subarray(0, n));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (any) => {
      assert.equal(survives(any), 'refused');
    }));
  });

  it('a small file that refers to the same things again and again is refused before it unfolds', () => {
    const shared = (records: number, xattrs: number, text: number): Uint8Array => {
      const builder = new Builder(1024);
      const long = builder.createString('x'.repeat(text));
      const vector = (count: number, offset: number): number => {
        builder.startVector(4, count, 4);
        for (let i = 0; i < count; i += 1) builder.addOffset(offset);
        return builder.endVector();
      };
      builder.startObject(2);
      builder.addFieldOffset(0, long, 0);
      const pax = vector(xattrs, builder.endObject());
      const type = builder.createString('reg');
      builder.startObject(14);
      builder.addFieldOffset(1, type, 0);
      builder.addFieldOffset(0, long, 0);
      builder.addFieldOffset(13, pax, 0);
      const metadata = vector(records, builder.endObject());
      builder.startObject(1);
      builder.addFieldOffset(0, metadata, 0);
      const toc = builder.endObject();
      builder.startObject(6);
      builder.addFieldOffset(4, toc, 0);
      builder.finish(builder.endObject());
      return builder.asUint8Array();
    };
    for (const bytes of [shared(50_000, 0, 0), shared(1000, 1000, 0), shared(20, 20_000, 0), shared(1000, 0, 100_000), shared(1, 1000, 100_000)]) {
      rejected(() => decodeZtoc(bytes), /overlap|compression information/);
    }
    rejected(() => decodeZtoc(shared(50_000, 0, 0)), /overlap/);
  });
});
