import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { gunzip } from '../../src/codec/gzip.ts';
import { InflateThread, type InflateOptions } from '../../src/codec/inflate-thread.ts';
import { matchesIn } from '../../src/codec/matches.ts';
import { lending, mixture, noise, pieces, records, text } from './samples.ts';

/** What somebody learns who reads a stream and asks for the matches in views of so many bytes. */
interface Reading {
  /** Bytes of each piece that was given out. */
  readonly sizes: number[];
  readonly content: Buffer;
  /** Of every view: lead and entries, or that nothing is known. */
  readonly matches: (readonly number[] | undefined)[];
  readonly error: unknown;
}

async function read(stream: ByteStream, cut: number): Promise<Reading> {
  const sizes: number[] = [];
  const parts: Buffer[] = [];
  const matches: Reading['matches'] = [];
  let error: unknown;
  try {
    for await (const bytes of stream) {
      sizes.push(bytes.length);
      for (let at = 0; at < bytes.length; at += cut) {
        const found = matchesIn(bytes.subarray(at, at + cut));
        matches.push(found && [found.lead, ...found.entries]);
      }
      parts.push(Buffer.from(bytes));
    }
  } catch (caught) {
    error = caught instanceof LazypullError ? { code: caught.code, message: caught.message, offset: caught.offset } : caught;
  }
  return { sizes, content: Buffer.concat(parts), matches, error };
}

/** The same by a thread; its digest or fault, too. */
async function readByThread(stream: ByteStream, cut: number, options: InflateOptions = {}): Promise<Reading & { readonly digest?: string }> {
  const thread = new InflateThread('stream');
  try {
    const reading = await read(thread.inflate(stream, options), cut);
    assert.equal(thread.size, reading.content.length);
    assert.equal(await thread.fault(), undefined);
    return reading.error === undefined ? { ...reading, digest: await thread.finish() } : reading;
  } finally {
    await thread.close();
    await thread.close();
  }
}

const what = 'stream';

/** Every content, in members of every kind. */
const STREAMS: readonly [name: string, packed: Uint8Array][] = [
  ['nothing', gzipSync('')],
  ['little', gzipSync(text(10))],
  ['poor matches', gzipSync(text(2_500_000), { level: 1 })],
  ['more than all slots', gzipSync(Buffer.concat([text(3_000_000), noise(1_500_000), new Uint8Array(2_000_000), records(1_500_000)]))],
  ['small members', Buffer.concat(Array.from({ length: 3000 }, (_, i) => gzipSync(text(i % 700, i % 50))))],
  ['members of all sizes', Buffer.concat([1, 1_100_000, 0, 70_000, 2_300_000, 3].map((size) => gzipSync(mixture(size))))],
  ['zeros behind it', Buffer.concat([gzipSync(mixture(100_000)), new Uint8Array(3_000_000)])],
];

test('content, its pieces and the matches in it are those of gunzip', async () => {
  for (const [name, packed] of STREAMS) {
    for (const [size, cut] of [[1 << 24, 1 << 24], [65_536, 100_000], [777_777, 5000]] as const) {
      const alone = await read(gunzip(lending(pieces(packed, size)), { what, onTrailer: () => undefined }), cut);
      const { digest, ...reading } = await readByThread(lending(pieces(packed, size)), cut);
      assert.equal(alone.error, undefined);
      assert.ok(reading.content.equals(alone.content), name);
      assert.deepEqual(reading.sizes, alone.sizes, name);
      assert.deepEqual(reading.matches, alone.matches, name);
      assert.equal(digest, digestOf(alone.content));
    }
  }
});

test('matches can be asked for in any order', async () => {
  const thread = new InflateThread(what);
  const view = fc.tuple(fc.nat(1_040_000), fc.nat(40_000));
  for await (const bytes of thread.inflate(lending([gzipSync(Buffer.concat([text(400_000), noise(100_000), records(500_000), new Uint8Array(40_000)]))]))) {
    const { entries } = matchesIn(bytes) ?? assert.fail();
    const all = entries.slice();
    fc.assert(
      fc.property(fc.array(view, { maxLength: 20 }), (views) => {
        for (const [at, length] of views) {
          const found = matchesIn(bytes.subarray(at, at + length)) ?? assert.fail();
          // Where literals begin, by all entries in front of it.
          const first = (found.entries.byteOffset - entries.byteOffset) / 4;
          let place = 0;
          for (const word of all.subarray(0, first)) place += word >>> 23 === 511 ? word & 0x7f_ffff : (word >>> 23) + ((word >>> 15) & 255) + 3;
          assert.equal(at + found.lead, place);
          let next = place;
          for (const word of found.entries) {
            const run = word >>> 23;
            if (run !== 511) assert.ok(next + run >= at && next + run < at + length);
            next += run === 511 ? word & 0x7f_ffff : run + ((word >>> 15) & 255) + 3;
          }
        }
      }),
      { numRuns: 50 },
    );
    assert.equal(matchesIn(new Uint8Array(bytes.buffer, 0, 100)), undefined, 'of other bytes in this memory nothing is known');
  }
  await thread.close();
});

test('whatever is wrong is told as gunzip tells it, with all that came before', async () => {
  const whole = Buffer.concat([gzipSync(text(900)), gzipSync(mixture(1_300_000)), gzipSync(text(50_000))]);
  const damage = fc.array(fc.tuple(fc.nat({ max: whole.length - 1 }), fc.integer({ min: 1, max: 255 })), { maxLength: 2 });
  const limit = fc.oneof(fc.constant(Infinity), fc.nat(1_400_000));
  await fc.assert(
    fc.asyncProperty(damage, fc.nat({ max: 20_000 }), fc.integer({ min: 500, max: 400_000 }), limit, fc.boolean(), async (flips, cut, piece, maxSize, fails) => {
      const packed = Buffer.from(whole.subarray(0, whole.length - cut));
      for (const [at, bits] of flips) if (at < packed.length) packed[at] = (packed[at] as number) ^ bits;
      const source = async function* (): ByteStream {
        yield* lending(pieces(packed, piece));
        if (fails) throw new LazypullError('NETWORK', 'no more of it');
      };
      // CRCs are left to others here, as they are by the thread.
      const alone = await read(gunzip(source(), { what, maxSize, onTrailer: () => undefined }), 1 << 20);
      const thread = new InflateThread(what);
      const reading = await read(thread.inflate(source(), { maxSize }), 1 << 20);
      const fault = await thread.fault();
      await thread.close();
      if (fault) return;
      assert.deepEqual(reading.error, alone.error);
      assert.deepEqual(reading.sizes, alone.sizes);
      assert.ok(reading.content.equals(alone.content));
    }),
    { numRuns: 40 },
  );
});

test('a wrong CRC counts from the piece on that its member ends in', async () => {
  const first = gzipSync(noise(3_500_000));
  first.writeUInt32LE(1, first.length - 8);
  const packed = Buffer.concat([first, gzipSync(noise(4_000_000))]);
  for (const count of [1, 3, 4, 5, 8]) {
    const thread = new InflateThread(what);
    let read = 0;
    try {
      for await (const bytes of thread.inflate(lending(pieces(packed, 300_000)))) if (bytes.length > 0 && ++read === count) break;
    } catch (error) {
      assert.match(String(error), /CRC-32/);
    }
    const fault = await thread.fault();
    assert.equal(fault?.offset, count < 4 ? undefined : first.length - 8, `${count} pieces`);
    await thread.close();
  }
});

test('no more is read than there is room for', async () => {
  const packed = gzipSync(noise(20_000_000));
  let asked = 0;
  const thread = new InflateThread(what);
  const stream = thread.inflate(async function* () {
    for (const part of pieces(packed, 100_000)) {
      asked += part.length;
      yield part;
    }
  }());
  await stream.next();
  for (let before = -1; before !== asked; ) {
    before = asked;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok(asked < 7_000_000, `${asked} bytes`);
  await stream.return(undefined);
  await thread.close();
});

test('leaving early lets go of the source, also of one that gives nothing', async () => {
  for (const stuck of [false, true]) {
    let left = false;
    let rest = [...pieces(gzipSync(noise(9_000_000)), 500_000)].slice(0, stuck ? 6 : undefined);
    const source: AsyncIterableIterator<Uint8Array> = {
      [Symbol.asyncIterator]: () => source,
      next: () => {
        const [value, ...others] = rest;
        rest = others;
        if (value) return Promise.resolve({ value });
        return stuck ? new Promise(() => undefined) : Promise.resolve({ done: true, value: undefined });
      },
      return: () => {
        left = true;
        return Promise.resolve({ done: true, value: undefined });
      },
    };
    const thread = new InflateThread(what);
    for await (const bytes of thread.inflate(source)) {
      assert.ok(bytes.length > 0);
      break;
    }
    assert.ok(left);
    assert.equal(await thread.fault(), undefined);
    await thread.close();
    await assert.rejects(thread.inflate(lending([gzipSync('late')])).next(), { code: 'INTERNAL' });
  }
});

test('cancelling is CANCELLED, before and in between', async () => {
  const packed = [...pieces(gzipSync(noise(9_000_000)), 500_000)];
  for (const when of [0, 1, 3]) {
    const stop = new AbortController();
    const thread = new InflateThread(what);
    let count = 0;
    if (when === 0) stop.abort();
    await assert.rejects(async () => {
      for await (const bytes of thread.inflate(lending(packed), { signal: stop.signal })) if (bytes.length > 0 && ++count === when) stop.abort();
    }, { code: 'CANCELLED' });
    assert.equal(count, when);
    await thread.close();
  }
});

test('threads serve one stream after another, and none that was left', async () => {
  const started: Worker[] = [];
  const count = (worker: Worker): void => void started.push(worker);
  process.on('worker', count);
  try {
    const content = Buffer.concat([text(1_500_000), noise(10)]);
    const good = async (): Promise<void> => assert.equal((await readByThread(lending(pieces(gzipSync(content), 100_000)), 1 << 20)).digest, digestOf(content));
    // As many at the same time as are kept.
    await Promise.all([good(), good()]);
    const before = started.length;
    for (let i = 0; i < 3; i++) await good();
    // One that is broken has come to its end as well.
    const broken = gzipSync(content);
    assert.equal((await readByThread(lending([broken.subarray(0, broken.length / 2)]), 1 << 20)).digest, undefined);
    await Promise.all([good(), good()]);
    assert.equal(started.length, before);
    const left = new InflateThread(what);
    await left.inflate(lending(pieces(gzipSync(noise(9_000_000)), 100_000))).next();
    await left.close();
    await Promise.all([good(), good()]);
    assert.equal(started.length, before + 2);
  } finally {
    process.off('worker', count);
  }
});

test('a thread that dies is an error, whichever it is and whenever', async () => {
  const packed = gzipSync(noise(12_000_000));
  for (const which of [0, 1]) {
    for (const when of [0, 1, 5]) {
      const mine: Worker[] = [];
      const meet = (worker: Worker): void => {
        if (mine.push(worker) === which + 1 && when === 0) void worker.terminate();
      };
      // Whatever is kept is not for this one.
      const others = [new InflateThread(what), new InflateThread(what)];
      const thread = new InflateThread(what);
      process.on('worker', meet);
      try {
        let count = 0;
        const work = async (): Promise<void> => {
          for await (const bytes of thread.inflate(lending(pieces(packed, 400_000)))) if (bytes.length > 0 && ++count === when) await mine[which]?.terminate();
          await thread.finish();
        };
        await assert.rejects(work, { code: 'INTERNAL' });
        assert.ok(count >= when);
        assert.equal(await thread.fault(), undefined);
      } finally {
        process.off('worker', meet);
        for (const each of [thread, ...others]) await each.close();
      }
    }
  }
  assert.equal((await readByThread(lending([gzipSync('after that')]), 10)).content.toString(), 'after that');
});
