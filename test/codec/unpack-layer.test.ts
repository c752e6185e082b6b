import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { unpackLayer, type UnpackedLayer, type UnpackLayerOptions } from '../../src/codec/unpack-layer.ts';
import { zstdCompress } from '../../src/codec/zstd.ts';
import { lending, mixture, noise, pieces, text } from './samples.ts';

interface Outcome {
  readonly bytes: Buffer;
  /** The first fault; undefined when there is none. */
  readonly error: unknown;
  readonly digest: Digest | undefined;
}

/** One thread only; threads that inflate and check; one that checks, because somebody listens to what is met while inflating. */
const ALONE: Way = { name: 'alone', options: { workers: { jobs: 1 } } };
const THREADS: Way = { name: 'threads', options: { workers: { jobs: 2 } } };
const HEARD: Way = { name: 'heard', options: { workers: { jobs: 2 }, onMember: () => undefined } };
const WAYS = [ALONE, THREADS, HEARD];

interface Way {
  readonly name: string;
  readonly options: Pick<UnpackLayerOptions, 'workers' | 'onMember'>;
}

/** Reads to the end, or until `reader` throws. */
async function outcome(way: Way, packed: Uint8Array | (() => ByteStream), reader?: (bytes: Uint8Array) => void, options: Partial<UnpackLayerOptions> = {}): Promise<Outcome> {
  const stream = packed instanceof Uint8Array ? lending(pieces(packed, 200_000)) : packed();
  const parts: Buffer[] = [];
  let digest: Digest | undefined;
  let layer: UnpackedLayer | undefined;
  let error: unknown;
  try {
    layer = unpackLayer(stream, { what: 'layer', size: Infinity, ...way.options, check: (found) => void (digest = found), ...options });
    for await (const bytes of layer.stream) {
      parts.push(Buffer.from(bytes));
      reader?.(bytes);
    }
  } catch (caught) {
    // Whoever does not throw anything need not ask.
    error = (reader && layer?.fault()) ?? caught;
  }
  return { bytes: Buffer.concat(parts), error, digest };
}

const told = ({ error }: Outcome): unknown => (error instanceof LazypullError ? { code: error.code, message: error.message, offset: error.offset } : error);

const PLAIN = [text(10), new Uint8Array(0), mixture(1_500_000), noise(1), text(300_000), text(5_000_000, 8), text(20)];
const MEMBERS = PLAIN.map((bytes) => gzipSync(bytes, { level: 1 }));
const ALL = Buffer.concat(PLAIN);

/** The members, the CRCs of some of them broken. */
function broken(...which: readonly number[]): Buffer {
  return Buffer.concat(MEMBERS.map((member, i) => {
    const copy = Buffer.from(member);
    if (which.includes(i)) copy.writeUInt32LE((copy.readUInt32LE(copy.length - 8) ^ 0x40) >>> 0, copy.length - 8);
    return copy;
  }));
}

/** Where the trailer of a member stands. */
const trailerOf = (which: number): number => MEMBERS.slice(0, which + 1).reduce((sum, { length }) => sum + length, 0) - 8;

test('content and digest are the same with threads and without, whatever the compression', async () => {
  for (const packed of [broken(), gzipSync(text(10)), gzipSync(''), await zstdCompress(ALL, 1), ALL, new Uint8Array(0)]) {
    const alone = await outcome(ALONE, packed);
    assert.equal(alone.error, undefined);
    assert.equal(alone.digest, digestOf(alone.bytes));
    for (const way of [THREADS, HEARD]) {
      const { error, bytes, digest } = await outcome(way, packed);
      assert.equal(error, undefined);
      assert.ok(bytes.equals(alone.bytes));
      assert.equal(digest, alone.digest);
    }
  }
});

test('a wrong CRC in any member is the same error with threads and without', async () => {
  for (const which of MEMBERS.keys()) {
    for (const way of WAYS) {
      const found = await outcome(way, broken(which, MEMBERS.length - 1));
      const offset = trailerOf(which);
      assert.deepEqual(told(found), { code: 'CORRUPT', message: `layer: content does not match the CRC-32 of its gzip trailer (at offset ${offset})`, offset }, `member ${which}, ${way.name}`);
      assert.equal(found.digest, undefined, 'nobody hears of a digest');
    }
  }
});

function withSize(member: Buffer, size: number): Buffer {
  member.writeUInt32LE(size, member.length - 4);
  return member;
}

test('a wrong CRC comes before whatever is wrong behind it', async () => {
  const behind: [name: string, packed: (start: Buffer) => Uint8Array | (() => ByteStream)][] = [
    ['garbage', (start) => Buffer.concat([start, Buffer.from('garbage')])],
    ['a truncated member', (start) => Buffer.concat([start, gzipSync(text(1000)).subarray(0, -9)])],
    ['a size that is wrong', (start) => Buffer.concat([start, withSize(gzipSync(text(1000)), 9)])],
    ['a source that fails', (start) => async function* () {
      yield Buffer.concat([start, gzipSync(noise(5000))]);
      throw new LazypullError('DIGEST_MISMATCH', 'not what was promised');
    }],
  ];
  for (const [name, packed] of behind) {
    for (const start of [MEMBERS[0] as Buffer, MEMBERS[2] as Buffer]) {
      const wrong = Buffer.from(start);
      wrong.writeUInt32LE(1, wrong.length - 8);
      const right = told(await outcome(ALONE, packed(start)));
      const found = told(await outcome(ALONE, packed(wrong)));
      assert.deepEqual(found, { code: 'CORRUPT', message: `layer: content does not match the CRC-32 of its gzip trailer (at offset ${start.length - 8})`, offset: start.length - 8 }, name);
      assert.notDeepEqual(right, found, name);
      for (const way of [THREADS, HEARD]) {
        assert.deepEqual(told(await outcome(way, packed(wrong))), found, name);
        assert.deepEqual(told(await outcome(way, packed(start))), right, name);
      }
    }
  }
});

test('a reader that stumbles over wrong content: the wrong CRC is what is told', async () => {
  const stumbling = (): void => {
    throw new LazypullError('CORRUPT', 'this is no tar');
  };
  for (const way of WAYS) {
    const found = await outcome(way, Buffer.concat([broken(0), noise(1000)]), stumbling);
    assert.match(String(found.error), /CRC-32/, `${way.name}`);
    // Otherwise the reader is right.
    assert.match(String((await outcome(way, broken(), stumbling)).error), /no tar/);
  }
});

test('what check throws is the error of the stream', async () => {
  const check = (): void => {
    throw new LazypullError('DIGEST_MISMATCH', 'not the diffID');
  };
  for (const way of WAYS) {
    for (const packed of [broken(), gzipSync('small'), ALL]) assert.match(String((await outcome(way, packed, undefined, { check })).error), /not the diffID/);
    assert.match(String((await outcome(way, broken(5), undefined, { check })).error), /CRC-32/);
    assert.match(String((await outcome(way, broken(), undefined, { maxSize: 4_000_000 })).error), /allowed/);
  }
});

test('leaving early ends the thread, and cancelling is CANCELLED', async () => {
  for (const way of WAYS) {
    const layer = unpackLayer(lending(pieces(broken(), 100_000)), { what: 'layer', size: Infinity, ...way.options, check: () => assert.fail('not at the end') });
    for await (const bytes of layer.stream) if (bytes.length > 0) break;
    assert.equal(layer.fault(), undefined);
    const stop = new AbortController();
    const cancelled = await outcome(way, broken(), () => stop.abort(), { signal: stop.signal });
    assert.equal((cancelled.error as LazypullError).code, 'CANCELLED');
  }
});

test('any damage is told alike with threads and without', async () => {
  const few = [text(900), noise(40), text(60_000, 3), text(5)];
  // More than one piece for the thread.
  const large = [text(100), mixture(1_200_000), text(5)];
  for (const [plain, numRuns] of [[few, 200], [large, 15]] as const) {
    const whole = Buffer.concat(plain.map((bytes) => gzipSync(bytes)));
    const damage = fc.array(fc.tuple(fc.nat({ max: whole.length - 1 }), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(damage, fc.nat({ max: 40 }), fc.integer({ min: 1, max: 70_000 }), async (flips, cut, piece) => {
        const packed = Buffer.from(whole.subarray(0, whole.length - cut));
        for (const [at, bits] of flips) if (at < packed.length) packed[at] = (packed[at] as number) ^ bits;
        const [alone, ...others] = await Promise.all(WAYS.map((way) => outcome(way, () => lending(pieces(packed, piece * (plain === few ? 1 : 20))))));
        for (const other of others) {
          assert.deepEqual(told(other), told(alone as Outcome));
          assert.equal(other.digest, alone?.digest);
        }
      }),
      { numRuns },
    );
  }
});
