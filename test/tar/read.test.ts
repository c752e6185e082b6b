import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { concat, encodeName } from '../../src/core/bytes.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { streamOf } from '../../src/core/stream.ts';
import type { ByteStream } from '../../src/core/types.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { TarReader } from '../../src/tar/read.ts';
import { paddingOf } from '../../src/tar/write.ts';
import { archive, entries, paxHeader, rawEntry, rawHeader } from '../support/tar-blocks.ts';
import * as corpus from '../support/tar-corpus.ts';
import { file, tarCases } from '../support/tar-corpus.ts';
import { asStream, gather, inPieces, outcome, readTar } from '../support/tar-read.ts';

async function only(bytes: Uint8Array): Promise<TarEntry> {
  const { entries: all } = await readTar(bytes);
  assert.equal(all.length, 1);
  return all[0]?.entry as TarEntry;
}

async function names(bytes: Uint8Array): Promise<string[]> {
  return (await readTar(bytes)).entries.map(({ entry }) => entry.path);
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

describe('corpus', () => {
  for (const { name, bytes, expected } of tarCases()) {
    it(`${name}: ${expected}`, async () => {
      let error: LazypullError | undefined;
      const got = await outcome(() => readTar(bytes, { checkPaths: true, what: 'layer 7' }).catch((e) => { error = e; throw e; }));
      assert.equal(got, expected, error?.message);
      if (!error) return;
      assert.notEqual(error.offset, undefined, error.message);
      assert.match(error.message, /^layer 7: |^tar entry refused: /);
    });
  }
});

describe('what an archive is made of', () => {
  for (const { name, bytes } of tarCases().filter(({ expected }) => expected === 'ok')) {
    it(`${name}: headers, stored payloads, padding and trailer are the archive again`, async () => {
      const { entries: all, trailer } = await readTar(bytes, { raw: true });
      const parts: Uint8Array[] = [];
      let offset = 0;
      for (const { entry, body } of all) {
        assert.equal(entry.offset, offset);
        assert.equal(body.length, entry.storedSize);
        parts.push(entry.header, body, new Uint8Array(paddingOf(body.length)));
        offset += entry.header.length + body.length + paddingOf(body.length);
      }
      assert.deepEqual(Buffer.from(concat([...parts, trailer])), Buffer.from(bytes));
    });
    it(`${name}: the pieces it comes in make no difference`, async () => {
      const whole = await readTar(bytes);
      for (const sizes of [[1], [511], [512, 0], [513, 3, 1000], [7, 1, 2048]]) assert.deepEqual(await readTar(inPieces(bytes, sizes)), whole, `pieces of ${sizes}`);
    });
  }
});

describe('TarReader: names', () => {
  it('keeps "./" and the trailing slash', async () => {
    assert.deepEqual(await names(corpus.withDotSlash()), ['./', './etc/', './etc/hostname']);
  });
  it('joins prefix and name, and takes long names from pax and GNU records', async () => {
    const long = `${'d'.repeat(60)}/${'e'.repeat(60)}`;
    assert.deepEqual(await names(corpus.longNamesUstar()), [`${long}/name`, `${long}/${'f'.repeat(20)}/`, 'z'.repeat(100)]);
    const pax = await readTar(corpus.longNamesPax());
    assert.deepEqual(pax.entries.map(({ entry }) => [entry.path, entry.linkName]), [[`${long}/${'n'.repeat(200)}`, ''], ['long', 'n'.repeat(200)], ['n'.repeat(200), `${long}/${'n'.repeat(200)}`]]);
    const gnu = await readTar(corpus.longNamesGnu());
    assert.deepEqual(gnu.entries.map(({ entry }) => [entry.path, entry.linkName]), [[`${long}/${'n'.repeat(200)}`, ''], [`${'n'.repeat(200)}-link`, 'n'.repeat(200)]]);
    assert.deepEqual(await names(corpus.gnuWithPrefix()), [`${long}/name`]);
  });
  it('keeps every byte of names that are not UTF-8', async () => {
    const { entries: all } = await readTar(corpus.invalidUtf8Names());
    assert.equal(text(encodeName(all[0]?.entry.path ?? '')), 'caf\xe9-\xff\xc3');
    assert.equal(all[1]?.entry.linkName, all[0]?.entry.path);
    const binary = await only(corpus.paxBinaryCharset());
    assert.equal(text(encodeName(binary.path)), 'caf\xe9-\xff\xc3');
    assert.equal(text(encodeName(binary.userName)), '\xff');
  });
  it('takes the last of two pax headers in a row', async () => {
    const bytes = archive(paxHeader([['path', 'first'], ['uid', '5']]), paxHeader([['gid', '6']]), rawEntry({ name: 'plain' }));
    const { path, uid, gid } = await only(bytes);
    assert.deepEqual([path, uid, gid], ['plain', 0, 6]);
  });
});

describe('TarReader: attributes', () => {
  it('tells types apart, with a trailing slash only where there is no type', async () => {
    const types = async (bytes: Uint8Array): Promise<string[]> => (await readTar(bytes)).entries.map(({ entry }) => entry.type);
    assert.deepEqual(await types(corpus.v7Archive()), ['directory', 'file']);
    assert.deepEqual(await types(corpus.contiguousFile()), ['file']);
    assert.deepEqual(await types(corpus.devices()), ['char', 'block', 'block', 'char', 'fifo']);
    assert.deepEqual(await types(archive(rawHeader({ name: 'a/', typeflag: '0' }))), ['file']);
  });
  it('keeps file type bits apart from the mode', async () => {
    const { entries: all } = await readTar(corpus.fileTypeInMode());
    assert.deepEqual(all.map(({ entry }) => [entry.mode, entry.rawMode]), [[0o755, 0o100755], [0o755, 0o40755]]);
  });
  it('reads device numbers', async () => {
    const { entries: all } = await readTar(corpus.devices());
    assert.deepEqual(all.map(({ entry }) => [entry.major, entry.minor]), [[1, 3], [8, 0], [4095, 1_048_575], [2 ** 21, 2 ** 32 - 1], [0, 0]]);
  });
  it('reads base-256 numbers and large ids', async () => {
    const base256 = await only(corpus.base256Numbers());
    assert.deepEqual([base256.uid, base256.gid, base256.size, base256.mtime], [2_097_152, 4_294_967_295, 3, { seconds: 2 ** 40, nanoseconds: 0 }]);
    const pax = await only(corpus.largeIds());
    assert.deepEqual([pax.uid, pax.gid, pax.userName, pax.groupName], [2_097_152, 4_294_967_295, 'u'.repeat(40), 'größe']);
  });
  it('refuses ids that Linux does not have', async () => {
    for (const uid of ['4294967296', '9007199254740993']) assert.equal(await outcome(() => readTar(archive(paxHeader([['uid', uid]]), rawEntry({ name: 'a' })))), 'CORRUPT');
  });
  it('reads times before the epoch and below the second', async () => {
    const { entries: all } = await readTar(corpus.times());
    assert.deepEqual(all.map(({ entry }) => [entry.mtime.seconds, entry.mtime.nanoseconds]), [[0, 0], [-5, 0], [-2, 750_000_000], [-1, 1], [1_700_000_000, 123_456_789], [1, 100_000_000], [8 ** 11, 0], [1, 0]]);
    assert.deepEqual(all.at(-1)?.entry.atime, { seconds: 2, nanoseconds: 5 });
    assert.deepEqual(all.at(-1)?.entry.ctime, { seconds: -3, nanoseconds: 0 });
    assert.ok(!('atime' in (all[0]?.entry ?? {})));
    const gnu = await only(corpus.timesGnu());
    assert.deepEqual([gnu.mtime, gnu.atime, gnu.ctime].map((time) => time?.seconds), [-5, 10, -1]);
  });
  it('reads pax times of every spelling', async () => {
    const cases: [string, number, number][] = [['0', 0, 0], ['-0', 0, 0], ['1.', 1, 0], ['1.5', 1, 5e8], ['-0.25', -1, 75e7], ['-1.000000000', -1, 0], ['3.1234567899', 3, 123_456_789], ['0.0000000001', 0, 0]];
    for (const [value, seconds, nanoseconds] of cases) {
      const entry = await only(archive(paxHeader([['mtime', value]]), rawEntry({ name: 'a' })));
      assert.deepEqual(entry.mtime, { seconds, nanoseconds }, value);
    }
    for (const value of ['-', '.5', '1.x', '+1', ' 1', '1e3', '9007199254740993', '0x1', '--1']) {
      assert.equal(await outcome(() => readTar(archive(paxHeader([['mtime', value]]), rawEntry({ name: 'a' })))), 'CORRUPT', value);
    }
  });
  it('keeps extended attributes byte for byte', async () => {
    const { entries: all } = await readTar(corpus.xattrs());
    assert.deepEqual([...(all[0]?.entry.xattrs ?? [])].map(([name, value]) => [name, text(value)]), [['security.capability', '\x01\0\0\x02\0\x20\xff\0\n='], ['user.empty', '']]);
    assert.deepEqual([...(all[1]?.entry.xattrs.keys() ?? [])], ['user.ключ']);
    const { xattrs } = await only(corpus.xattrsOfLibarchive());
    assert.deepEqual([...xattrs].map(([name, value]) => [name, text(value)]).sort(), [['user.a b', '\x01\0\xff'], ['user.c', '\xfe\0']]);
  });
  it('ignores global headers, as container runtimes do', async () => {
    const seconds = 1_700_000_000;
    const { entries: all } = await readTar(corpus.paxGlobal());
    assert.deepEqual(
      all.map(({ entry: { path, uid, gid, mtime }, body }) => [path, uid, gid, mtime, text(body)]),
      [['a', 1000, 100, { seconds, nanoseconds: 0 }, 'x'], ['b', 8, 0, { seconds, nanoseconds: 0 }, 'y'], ['c', 0, 0, { seconds, nanoseconds: 0 }, 'z']],
    );
    assert.deepEqual([...(await only(corpus.paxGlobalXattr())).xattrs], []);
    const { size, sparse } = await only(corpus.paxGlobalHoles());
    assert.deepEqual([size, sparse], [1, undefined]);
    const values = await only(corpus.paxGlobalValues());
    assert.deepEqual([values.uid, values.size, values.mtime.seconds], [1000, 1, seconds]);
  });
  it('counts global headers as bytes of the entry behind them, or of the trailer', async () => {
    const { entries: all } = await readTar(corpus.paxGlobal());
    assert.deepEqual(all.map(({ entry }) => [entry.offset, entry.header.length]), [[0, 3 * 512], [2048, 5 * 512], [5120, 3 * 512]]);
    assert.equal((await readTar(corpus.paxGlobalAtEnd())).trailer.length, 2 * 512 + 1024);
  });
  it('drops the records in front of a global header, as container runtimes do', async () => {
    const { entries: all, trailer } = await readTar(corpus.paxBeforeGlobal());
    assert.deepEqual(all.map(({ entry }) => [entry.path, entry.linkName, entry.xattrs.size, entry.header.length]), [['a', '', 0, 5 * 512], ['b', 'a', 0, 7 * 512]]);
    assert.equal(trailer.length, 4 * 512 + 1024);
  });
  it('takes a record without a value for none', async () => {
    const { path, uid, mtime } = await only(corpus.paxEmptyValues());
    assert.deepEqual([path, uid, mtime.seconds], ['a', 7, 1_700_000_000]);
  });
  it('does not read a payload behind links and directories, whatever their size says', async () => {
    assert.deepEqual(await names(corpus.hardLinkWithSize()), ['a', 'b', 'c']);
    const { entries: all } = await readTar(corpus.directoryWithSize());
    assert.deepEqual(all.map(({ entry }) => [entry.path, entry.size, entry.storedSize]), [['a/', 0, 0], ['a/b', 4, 4]]);
  });
});

describe('TarReader: sparse files', () => {
  const wanted = Buffer.alloc(10_000);
  wanted.write('abc', 512);
  wanted.write('defg', 4096);
  for (const name of ['gnuSparse', 'paxSparse00', 'paxSparse01', 'paxSparse10'] as const) {
    it(`${name} expands, and is there as stored`, async () => {
      const [first] = (await readTar(corpus[name]())).entries;
      assert.equal(first?.entry.path, 'sparse');
      assert.deepEqual([first.entry.size, first.entry.storedSize], [10_000, 7]);
      assert.deepEqual(first.entry.sparse, [{ offset: 512, length: 3 }, { offset: 4096, length: 4 }]);
      assert.deepEqual(Buffer.from(first.body), wanted);
      const [raw] = (await readTar(corpus[name](), { raw: true })).entries;
      assert.equal(text(raw?.body ?? new Uint8Array()), 'abcdefg');
    });
  }
  it('follows extension blocks, and counts them as header', async () => {
    const { entries: all } = await readTar(corpus.gnuSparseExtended());
    assert.deepEqual(all.map(({ entry }) => [entry.path, entry.size, entry.header.length, entry.sparse?.length]), [['sparse', 51_200, 4 * 512, 50], ['after', 1, 512, undefined]]);
    assert.equal(text(all[0]?.body ?? new Uint8Array()), `x${'\0'.repeat(1023)}`.repeat(50));
  });
  it('yields holes in bounded pieces', async () => {
    const reader = new TarReader(asStream(corpus.sparseOnlyHole()));
    await reader.next();
    const sizes: number[] = [];
    for await (const piece of reader.body()) sizes.push(piece.length);
    assert.equal(sizes.reduce((a, b) => a + b), 200_000);
    assert.ok(Math.max(...sizes) <= 65_536);
  });
  it('counts holes towards maxSize', async () => {
    assert.equal(await outcome(() => readTar(corpus.sparseOnlyHole(), { maxSize: 100_000 })), 'LIMIT');
    assert.equal(await outcome(() => readTar(corpus.sparseOnlyHole(), { maxSize: 300_000 })), 'ok');
  });
  it('refuses versions it does not know, and maps on things that are no files', async () => {
    const of = (version: string, typeflag = '0'): Uint8Array => archive(paxHeader([['GNU.sparse.major', version], ['GNU.sparse.minor', '0'], ['GNU.sparse.size', '0'], ['GNU.sparse.map', '']]), rawHeader({ name: 'a', typeflag }));
    assert.equal(await outcome(() => readTar(of('0'))), 'ok');
    assert.equal(await outcome(() => readTar(of('2'))), 'UNSUPPORTED');
    assert.equal(await outcome(() => readTar(of('0', '5'))), 'CORRUPT');
  });
});

describe('TarReader: payloads', () => {
  const two = (): Uint8Array => archive(entries(file('a', 'x'.repeat(3000)), file('b', 'second')));

  it('passes over what was not read', async () => {
    const reader = new TarReader(inPieces(two(), [100]));
    await reader.next();
    for await (const piece of reader.body()) {
      assert.ok(piece.length > 0);
      break;
    }
    assert.equal((await reader.next())?.path, 'b');
    assert.equal(text(await gather(reader.body())), 'second');
  });
  it('goes on where a stream was left', async () => {
    const reader = new TarReader(inPieces(two(), [100]));
    await reader.next();
    let size = 0;
    for await (const piece of reader.body()) {
      size += piece.length;
      break;
    }
    assert.equal(size + (await gather(reader.body())).length, 3000);
    assert.equal((await gather(reader.body())).length, 0);
  });
  it('lends views of the stream, without copying', async () => {
    const bytes = two();
    const reader = new TarReader(streamOf(bytes));
    await reader.next();
    for await (const piece of reader.body()) assert.equal(piece.buffer, bytes.buffer);
    await reader.next();
    assert.equal(reader.bodyReady()?.buffer, bytes.buffer);
  });
  it('gives a payload at once only when all of it is at hand and untouched', async () => {
    const whole = new TarReader(streamOf(two()));
    await whole.next();
    assert.equal(whole.bodyReady()?.length, 3000);
    assert.equal((await gather(whole.body())).length, 0);
    assert.equal((await whole.next())?.path, 'b');
    const pieces = new TarReader(inPieces(two(), [1000]));
    await pieces.next();
    assert.equal(pieces.bodyReady(), undefined);
    assert.equal((await gather(pieces.body())).length, 3000);
    const sparse = new TarReader(asStream(corpus.gnuSparse()));
    await sparse.next();
    assert.equal(sparse.bodyReady(), undefined);
  });
  it('refuses a stream of an earlier entry', async () => {
    const reader = new TarReader(asStream(two()));
    await reader.next();
    const late = reader.body();
    await reader.next();
    await assert.rejects(gather(late), (error: LazypullError) => error.code === 'INTERNAL');
    assert.equal(text(await gather(reader.body())), 'second');
  });
  it('refuses to mix the two views of a sparse file', async () => {
    const reader = new TarReader(asStream(corpus.gnuSparse()));
    await reader.next();
    for await (const _ of reader.body()) break;
    await assert.rejects(gather(reader.rawBody()), (error: LazypullError) => error.code === 'INTERNAL');
  });
  it('gives headers that stay as they are while the stream reuses its memory', async () => {
    const kept: [Uint8Array, string][] = [];
    const reader = new TarReader(inPieces(corpus.longNamesPax(), [512]));
    for (let entry = await reader.next(); entry; entry = await reader.next()) kept.push([entry.header, text(entry.header)]);
    assert.equal(kept.length, 3);
    for (const [header, then] of kept) assert.equal(text(header), then);
  });
  it('passes a file of 9 GiB', async () => {
    const reader = new TarReader(corpus.hugeFile());
    const huge = await reader.next();
    assert.equal(huge?.size, 9 * 2 ** 30);
    const after = await reader.next();
    assert.equal(after?.path, 'after');
    assert.equal(after.offset, 9 * 2 ** 30 + (huge.header.length ?? 0));
    assert.equal(await reader.next(), undefined);
  });
});

describe('TarReader: ends, limits and errors', () => {
  it('gives everything behind the last entry as the trailer', async () => {
    const trailerOf = async (bytes: Uint8Array): Promise<number> => (await readTar(bytes)).trailer.length;
    assert.equal(await trailerOf(corpus.simple()), 1024);
    assert.equal(await trailerOf(corpus.noEndBlocks()), 0);
    assert.equal(await trailerOf(corpus.oneEndBlock()), 512);
    assert.equal(await trailerOf(corpus.bytesAfterEnd()), 1024 + 8192 + 14);
    assert.equal(await trailerOf(corpus.noBytes()), 0);
  });
  it('has no trailer before the end, and the end is final', async () => {
    const reader = new TarReader(asStream(corpus.noEndBlocks()));
    await reader.next();
    await assert.rejects(gather(reader.trailer()), (error: LazypullError) => error.code === 'INTERNAL');
    assert.equal(await reader.next(), undefined);
    assert.equal(await reader.next(), undefined);
  });
  it('knows its position', async () => {
    const reader = new TarReader(asStream(corpus.simple()));
    assert.equal(reader.position, 0);
    await reader.next();
    assert.equal(reader.position, 512);
    const entry = await reader.next();
    assert.equal(reader.position, 1024);
    assert.equal(entry?.offset, 512);
    await gather(reader.body());
    assert.equal(reader.position, 1029);
  });
  it('holds headers, the archive and the trailer against limits before it keeps them', async () => {
    const name = 'a/'.repeat(50_000);
    assert.equal(await outcome(() => readTar(archive(paxHeader([['path', name]]), rawEntry({ name: 'a' })), { maxHeaderSize: 100_000 })), 'LIMIT');
    assert.equal(await outcome(() => readTar(archive(paxHeader([['path', name]]), rawEntry({ name: 'a' })), { maxHeaderSize: 200_000 })), 'ok');
    const many = archive(...Array.from({ length: 300 }, () => paxHeader([['comment', 'c']], 'g')), rawEntry({ name: 'a' }));
    assert.equal(await outcome(() => readTar(many, { maxHeaderSize: 200_000 })), 'LIMIT');
    assert.equal(await outcome(() => readTar(corpus.gnuSparseExtended(), { maxHeaderSize: 1024 })), 'LIMIT');
    assert.equal(await outcome(() => readTar(corpus.simple(), { maxSize: 1000 })), 'LIMIT');
    const { length } = corpus.bytesAfterEnd();
    assert.equal(await outcome(() => readTar(corpus.bytesAfterEnd(), { maxSize: length })), 'ok');
    assert.equal(await outcome(() => readTar(corpus.bytesAfterEnd(), { maxSize: length - 1 })), 'LIMIT');
  });
  it('does not wait for the bytes of a payload that is beyond the limit', async () => {
    const reader = new TarReader(asStream(corpus.hugeHeaderPax()), { maxSize: 2 ** 30 });
    await assert.rejects(reader.next(), (error: LazypullError) => error.code === 'LIMIT' && error.path === 'huge');
  });
  it('names archive, path and offset, and repeats the error', async () => {
    const reader = new TarReader(asStream(corpus.unknownType()), { what: 'layer 3' });
    await reader.next();
    const wanted = (error: LazypullError): boolean => error.code === 'UNSUPPORTED' && error.path === 'label' && error.offset === 1024 && /^layer 3: .*'V'/.test(error.message);
    await assert.rejects(reader.next(), wanted);
    await assert.rejects(reader.next(), wanted);
  });
  it('passes on what goes wrong in the stream', async () => {
    const failing = async function* (error: Error): ByteStream {
      yield corpus.truncatedPayload().subarray(0, 700);
      throw error;
    };
    const typed = new LazypullError('DIGEST_MISMATCH', 'no');
    await assert.rejects(readTar(failing(typed)), (error) => error === typed);
    await assert.rejects(readTar(failing(new Error('socket'))), (error: LazypullError) => error.code === 'IO' && error.message.includes('socket'));
    const skipping = new TarReader(failing(typed));
    await skipping.next();
    await assert.rejects(skipping.next(), (error) => error === typed);
  });
  it('closes the stream, and reads no more', async () => {
    let closed = false;
    const stream = (async function* (): ByteStream {
      try {
        yield corpus.simple();
      } finally {
        closed = true;
      }
    })();
    const reader = new TarReader(stream);
    await reader.next();
    await reader.close();
    assert.ok(closed);
    await assert.rejects(reader.next(), (error: LazypullError) => error.code === 'INTERNAL');
  });
  it('refuses a next() inside a next()', async () => {
    const reader = new TarReader(inPieces(corpus.simple(), [100]));
    const first = reader.next();
    await assert.rejects(reader.next(), (error: LazypullError) => error.code === 'INTERNAL');
    assert.equal((await first)?.path, 'etc/');
    assert.equal((await reader.next())?.path, 'etc/hostname');
  });
});
