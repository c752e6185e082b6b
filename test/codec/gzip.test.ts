import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, deflateRawSync, gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { crc32 } from '../../src/codec/crc32.ts';
import { gunzip, gunzipAll, gunzipMember, gzipHeader, gzipMember, type GzipMember, type GzipTrailer, gzipTrailer, parseGzipHeader } from '../../src/codec/gzip.ts';
import { collected, lending, mixture, noise, numbers, pieces, records, SAMPLES, text } from './samples.ts';

const LIMIT = 1 << 26;

interface Fields {
  readonly text?: boolean;
  readonly extra?: Uint8Array;
  readonly name?: string;
  readonly comment?: string;
  readonly check?: boolean;
}

/** A member with any header fields (RFC 1952, 2.3). */
function member(bytes: Uint8Array, fields: Fields = {}): Uint8Array {
  const { extra, name, comment, check } = fields;
  const flags = (fields.text ? 1 : 0) | (check ? 2 : 0) | (extra ? 4 : 0) | (name === undefined ? 0 : 8) | (comment === undefined ? 0 : 16);
  const parts: Uint8Array[] = [Uint8Array.of(0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3)];
  if (extra) parts.push(Uint8Array.of(extra.length & 255, extra.length >> 8), extra);
  if (name !== undefined) parts.push(Buffer.from(`${name}\0`, 'latin1'));
  if (comment !== undefined) parts.push(Buffer.from(`${comment}\0`, 'latin1'));
  if (check) {
    const crc = crc32(Buffer.concat(parts));
    parts.push(Uint8Array.of(crc & 255, (crc >> 8) & 255));
  }
  return Buffer.concat([...parts, deflateRawSync(bytes), gzipTrailer(crc32(bytes), bytes.length)]);
}

const ALL_FIELDS: Fields = { text: true, extra: Uint8Array.of(83, 71, 2, 0, 0, 7), name: 'a name', comment: 'a comment', check: true };

test('inflates what others make, in pieces of any size', async () => {
  for (const { name, bytes } of SAMPLES) {
    for (const packed of [gzipSync(bytes), gzipSync(bytes, { level: 1, memLevel: 1 }), gzipSync(bytes, { strategy: constants.Z_FIXED }), member(bytes, ALL_FIELDS)]) {
      for (const sizes of [[1 << 20], [1000, 1, 17, 65_536]]) {
        assert.ok(Buffer.from(await collected(gunzip(lending(pieces(packed, ...sizes))))).equals(bytes), name);
      }
      assert.ok(Buffer.from(gunzipAll(packed, LIMIT)).equals(bytes), name);
    }
  }
});

test('inflates byte by byte', async () => {
  const packed = Buffer.concat([member(text(3000), ALL_FIELDS), member(new Uint8Array(0)), member(noise(50))]);
  assert.ok(Buffer.from(await collected(gunzip(lending(pieces(packed, 1))))).equals(gunzipSync(packed)));
});

test('many members, and where they begin', async () => {
  const plain = Array.from({ length: 400 }, (_, i) => text((i * 37) % 3000, i));
  const packed = plain.map((bytes, i) => member(bytes, i % 3 === 0 ? ALL_FIELDS : {}));
  const seen: (GzipMember & { readonly copy?: Uint8Array })[] = [];
  const onMember = (start: GzipMember): void => {
    seen.push({ ...start, ...(start.extra && { copy: new Uint8Array(start.extra) }) });
  };
  const views = [];
  for await (const bytes of gunzip(lending(pieces(Buffer.concat(packed), 5000)), { onMember })) views.push(bytes.slice());
  assert.ok(Buffer.concat(views).equals(Buffer.concat(plain)));
  assert.ok(views.length < 10, 'small members share views');
  let [offset, out] = [0, 0];
  assert.equal(seen.length, packed.length);
  for (const [i, start] of seen.entries()) {
    assert.deepEqual([start.offset, start.out, start.headerSize], [offset, out, i % 3 === 0 ? 10 + 2 + 6 + 7 + 10 + 2 : 10]);
    assert.deepEqual(start.copy, i % 3 === 0 ? ALL_FIELDS.extra : undefined);
    offset += packed[i]?.length ?? 0;
    out += plain[i]?.length ?? 0;
  }
});

test('blocks, and the windows in front of them', async () => {
  const first = Buffer.from(text(100_000));
  const second = Buffer.from(mixture(100_000));
  const firstPacked = gzipSync(first, { memLevel: 1 });
  const packed = Buffer.concat([firstPacked, gzipSync(second, { memLevel: 1 })]);
  const all = Buffer.concat([first, second]);
  let last = -1;
  let count = 0;
  const firsts: number[] = [];
  const consumed: Buffer[] = [];
  await collected(gunzip(lending(pieces(packed, 30_000)), {
    onBlock: (block) => {
      count += 1;
      assert.ok(block.bit > last);
      assert.ok(Math.ceil(block.bit / 8) >= Buffer.concat(consumed).length, 'a block comes before its bytes');
      last = block.bit;
      if (block.first) firsts.push(block.bit / 8);
      // Also across members.
      assert.ok(all.subarray(Math.max(0, block.out - 32_768), block.out).equals(block.window()), `block at bit ${block.bit}`);
    },
    onPacked: (bytes) => consumed.push(Buffer.from(bytes)),
  }));
  assert.ok(count > 20);
  assert.deepEqual(firsts, [10, firstPacked.length + 10]);
  assert.ok(Buffer.concat(consumed).equals(packed), 'every byte is handed on once');
});

test('zeros may follow the last member, nothing else', async () => {
  const one = gzipSync('one');
  const padded = Buffer.concat([one, gzipSync('two'), Buffer.alloc(100_000)]);
  assert.equal(Buffer.from(await collected(gunzip(lending(pieces(padded, 1000))))).toString(), 'onetwo');
  for (const garbage of [Buffer.from('x'), Buffer.from([0, 0, 0, 5]), Buffer.concat([Buffer.alloc(1000), one]), Buffer.from([0x1f]), Buffer.from([0x1f, 0x8c])]) {
    const packed = Buffer.concat([one, garbage]);
    await assert.rejects(collected(gunzip(lending(pieces(packed, 7)))), (error: LazypullError) => error.code === 'CORRUPT' && error.offset !== undefined && error.offset >= one.length, garbage.toString('hex'));
    assert.throws(() => gunzipAll(packed, LIMIT), { code: 'CORRUPT' });
  }
  assert.throws(() => gunzipAll(Buffer.concat([one, Buffer.from([0, 0, 0, 5])]), LIMIT), { offset: one.length + 3, message: /garbage/ });
});

test('every truncation is found, with its offset', () => {
  const packed = Buffer.concat([member(text(300), ALL_FIELDS), member(noise(30))]);
  const whole = member(text(300), ALL_FIELDS).length;
  for (let size = 0; size < packed.length; size++) {
    if (size === whole) continue;
    assert.throws(() => gunzipAll(packed.subarray(0, size), LIMIT, 'layer 3'), { code: 'CORRUPT', offset: size, message: /^layer 3.* ends early/ }, `${size} bytes`);
  }
  assert.equal(gunzipAll(packed.subarray(0, whole), LIMIT).length, 300);
});

test('agrees with zlib on bit flips', () => {
  const next = numbers(6);
  for (const packed of [member(text(200), ALL_FIELDS), member(new Uint8Array(0)), member(records(900), { check: true }), member(noise(100), { name: 'n', extra: new Uint8Array(0) })]) {
    for (let i = 0; i < packed.length * 8; i += packed.length > 200 && i > 400 ? Math.ceil(next() * 9) : 1) {
      const flipped = Uint8Array.from(packed);
      flipped[i >> 3] = (flipped[i >> 3] ?? 0) ^ (1 << (i & 7));
      let theirs: Uint8Array | undefined;
      try {
        theirs = gunzipSync(flipped);
      } catch {
        theirs = undefined;
      }
      try {
        const ours = gunzipAll(flipped, LIMIT);
        assert.ok(theirs, `bit ${i} is accepted`);
        assert.ok(Buffer.from(theirs).equals(ours));
      } catch (error) {
        assert.ok(error instanceof LazypullError, String(error));
        assert.equal(error.code, 'CORRUPT');
        // zlib ignores what follows a member if it does not look like another; we do not.
        assert.ok(!theirs || /garbage|should begin/.test(error.message), `bit ${i}: ${error.message}`);
      }
    }
  }
});

test('random bytes never give more than a CORRUPT or a LIMIT', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), (bytes, framed) => {
    const packed = framed ? Buffer.concat([gzipHeader(6), bytes]) : bytes;
    assert.throws(() => gunzipAll(packed, 1000), (error) => error instanceof LazypullError && (error.code === 'CORRUPT' || error.code === 'LIMIT'));
  }), { numRuns: 2000 });
});

test('headers that are refused', () => {
  const good = member(text(20), ALL_FIELDS);
  const changed = (at: number, value: number): Uint8Array => Object.assign(Uint8Array.from(good), { [at]: value });
  assert.throws(() => gunzipAll(changed(2, 7), LIMIT), { code: 'CORRUPT', offset: 2, message: /compression method 7/ });
  assert.throws(() => gunzipAll(changed(3, 0x3f), LIMIT), { code: 'CORRUPT', offset: 3, message: /reserved/ });
  assert.throws(() => gunzipAll(changed(4, 99), LIMIT), { code: 'CORRUPT', message: /header checksum/ });
  assert.throws(() => gunzipAll(changed(0, 0), LIMIT), { code: 'CORRUPT', offset: 0 });
  assert.throws(() => gunzipAll(member(text(20), { name: 'x'.repeat(400_000) }), LIMIT), { code: 'CORRUPT', message: /header of more than/ });
  assert.equal(gunzipAll(member(text(20), { name: 'x'.repeat(70_000), extra: new Uint8Array(65_535) }), LIMIT).length, 20);
});

test('the limit holds to the byte', async () => {
  const plain = Buffer.concat([text(3_000_000)]);
  const packed = Buffer.concat([gzipSync(plain.subarray(0, 1_700_000)), gzipSync(plain.subarray(1_700_000))]);
  assert.equal((await collected(gunzip(lending(pieces(packed, 65_536)), { maxSize: plain.length }))).length, plain.length);
  for (const maxSize of [0, 1, 1_699_999, plain.length - 1]) {
    let size = 0;
    await assert.rejects(async () => {
      for await (const bytes of gunzip(lending(pieces(packed, 65_536)), { maxSize, what: 'bomb' })) size += bytes.length;
    }, { code: 'LIMIT', offset: maxSize, message: /^bomb/ });
    assert.ok(size <= maxSize);
  }
});

test('views are large and lent', async () => {
  const plain = Buffer.alloc(20_000_000, 'abcdefg');
  const sizes: number[] = [];
  let kept: Uint8Array | undefined;
  for await (const bytes of gunzip(lending(pieces(gzipSync(plain), 65_536)))) {
    sizes.push(bytes.length);
    assert.ok(kept === undefined || kept.buffer === bytes.buffer);
    kept = bytes;
  }
  assert.ok(sizes.slice(0, -1).every((size) => size > 900_000), sizes.join(' '));
});

test('the next piece is asked for before the present one is used up', async () => {
  const asked: number[] = [];
  async function* source(): AsyncGenerator<Uint8Array> {
    for (const [i, piece] of [...pieces(gzipSync(noise(3_000_000)), 1_000_000)].entries()) {
      asked.push(i);
      yield piece;
    }
  }
  for await (const bytes of gunzip(source())) {
    assert.ok(bytes.length > 0);
    assert.ok(asked.length >= 2);
    break;
  }
});

test('a consumer that stops, a source that fails, and a signal', async () => {
  let closed = 0;
  const packed = gzipSync(noise(5_000_000), { level: 1 }).subarray(0, 4_000_000);
  async function* source(fail: boolean): AsyncGenerator<Uint8Array> {
    try {
      yield* pieces(packed, 100_000);
      if (fail) throw new LazypullError('NETWORK', 'connection lost');
    } finally {
      closed += 1;
    }
  }
  for await (const bytes of gunzip(source(false))) {
    assert.ok(bytes.length > 0);
    break;
  }
  assert.equal(closed, 1);
  await assert.rejects(collected(gunzip(source(true))), { code: 'NETWORK' });
  assert.equal(closed, 2);
  await assert.rejects(collected(gunzip(source(false))), { code: 'CORRUPT' });
  assert.equal(closed, 3);
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const bytes of gunzip(source(false), { signal: controller.signal })) if (bytes.length > 0) controller.abort();
  }, { code: 'CANCELLED' });
  assert.equal(closed, 4);
});

test('a part of a member', () => {
  const bytes = Buffer.from(text(5000));
  const packed = Buffer.concat([member(bytes, ALL_FIELDS), noise(500)]);
  assert.ok(bytes.equals(gunzipMember(packed, { size: 5000 })));
  assert.ok(bytes.subarray(100, 300).equals(gunzipMember(packed, { skip: 100, size: 200 })));
  assert.throws(() => gunzipMember(packed, { skip: 100, size: 4901 }), { code: 'CORRUPT' });
  assert.throws(() => gunzipMember(packed.subarray(0, 20), { size: 1 }), { code: 'CORRUPT', message: /header ends early/ });
  assert.throws(() => gunzipMember(noise(500), { size: 1 }), { code: 'CORRUPT' });
  assert.throws(() => gunzipMember(new Uint8Array(0), { size: 0 }), { code: 'CORRUPT' });
});

test('members of our own', () => {
  assert.deepEqual([...gzipHeader(6)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
  assert.deepEqual([...gzipHeader(9)], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff]);
  assert.deepEqual([...gzipHeader(1, Uint8Array.of(1, 2, 3))], [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 4, 0xff, 3, 0, 1, 2, 3]);
  assert.throws(() => gzipHeader(6, new Uint8Array(65_536)), { code: 'INTERNAL' });
  assert.deepEqual([...gzipTrailer(0x8765_4321, 2 ** 32 + 258)], [0x21, 0x43, 0x65, 0x87, 2, 1, 0, 0]);
  assert.deepEqual(parseGzipHeader(gzipHeader(1, Uint8Array.of(1, 2, 3)), 'x'), { size: 15, extra: Uint8Array.of(1, 2, 3) });
  for (const level of [0, 1, 6, 9]) {
    const packed = gzipMember(text(10_000), level);
    assert.ok(gunzipSync(packed).equals(text(10_000)));
    gzipMember(records(20_000), level);
    assert.ok(gunzipSync(packed).equals(text(10_000)), 'the result belongs to the caller');
  }
});

/** What `gunzip` tells and gives out, in order. */
async function told(packed: Uint8Array, piece = 5000): Promise<{ readonly events: (GzipTrailer | Uint8Array)[]; readonly error: unknown }> {
  const events: (GzipTrailer | Uint8Array)[] = [];
  try {
    for await (const bytes of gunzip(lending(pieces(packed, piece)), { onTrailer: (trailer) => events.push(trailer) })) events.push(new Uint8Array(bytes));
  } catch (error) {
    return { events, error };
  }
  return { events, error: undefined };
}

const isTrailer = (event: GzipTrailer | Uint8Array): event is GzipTrailer => !(event instanceof Uint8Array);

test('trailers are told instead of checked, before the output behind them is given out', async () => {
  const plain = [text(10), new Uint8Array(0), text(3_000_000), noise(1), records(70_000), text(20)];
  const members = plain.map((bytes) => Buffer.from(member(bytes)));
  for (const one of members) if (one !== members[1]) one.writeUInt32LE(7, one.length - 8);
  const { events, error } = await told(Buffer.concat(members));
  assert.equal(error, undefined);
  let [offset, out] = [0, 0];
  const wanted = members.flatMap((one, i) => {
    const bytes = plain[i] as Uint8Array;
    offset += one.length;
    out += bytes.length;
    return bytes.length === 0 ? [] : [{ crc: 7, offset: offset - 8, out }];
  });
  assert.deepEqual(events.filter(isTrailer), wanted);
  let given = 0;
  for (const [i, event] of events.entries()) {
    if (isTrailer(event)) assert.ok(event.out >= given, 'told in time');
    else {
      given += event.length;
      for (const later of events.slice(i).filter(isTrailer)) assert.ok(later.out >= given, 'in order');
    }
  }
  assert.ok(Buffer.concat(events.filter((event) => !isTrailer(event)) as Uint8Array[]).equals(Buffer.concat(plain)));
});

test('empty members and sizes are checked all the same', async () => {
  const empty = Buffer.from(member(new Uint8Array(0)));
  empty[empty.length - 8] = 1;
  const long = Buffer.from(member(text(100)));
  long[long.length - 4] = 99;
  for (const [packed, offset, what] of [[empty, empty.length - 8, /CRC-32/], [long, long.length - 4, /size in its gzip trailer/]] as const) {
    const { error } = await told(packed);
    assert.ok(error instanceof LazypullError && error.code === 'CORRUPT' && error.offset === offset && what.test(error.message), String(error));
  }
});

test('many small members: trailers do not pile up', async () => {
  const one = Buffer.from(member(Uint8Array.of(65)));
  const { events } = await told(Buffer.concat(Array.from({ length: 5000 }, () => one)), 1 << 20);
  let waiting = 0;
  for (const event of events) {
    waiting = isTrailer(event) ? waiting + 1 : 0;
    assert.ok(waiting <= 1024);
  }
  assert.equal(events.filter(isTrailer).length, 5000);
});

test('what was told of is given out in front of a fault, and no more', async () => {
  const packed = Buffer.concat([member(text(1000)), member(text(2000)), member(text(3000)).subarray(0, -20)]);
  for (const [bytes, what] of [[packed, /ends early/], [Buffer.concat([member(text(1000)), member(text(2000)), Buffer.from('garbage')]), /garbage|gzip/]] as const) {
    const { events, error } = await told(bytes);
    assert.ok(error instanceof LazypullError && what.test(error.message), String(error));
    assert.deepEqual(events.map((event) => (isTrailer(event) ? event.out : `${event.length} bytes`)), [1000, 3000, '3000 bytes']);
  }
  // Also when the source fails.
  const failing = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.concat([member(text(1000)), member(noise(5000)).subarray(0, -1000)]);
    throw new LazypullError('NETWORK', 'gone');
  };
  const sizes: number[] = [];
  await assert.rejects(async () => {
    for await (const bytes of gunzip(failing(), { onTrailer: () => undefined })) sizes.push(bytes.length);
  }, { code: 'NETWORK' });
  assert.deepEqual(sizes, [1000]);
});
