import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { concat, decodeName, encodeName } from '../../src/core/bytes.ts';
import type { LazypullError } from '../../src/core/errors.ts';
import { streamOf } from '../../src/core/stream.ts';
import type { TarEntry, TarType } from '../../src/tar/entry.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf, TAR_BLOCK, writeTar, type TarHeader, type TarInput } from '../../src/tar/write.ts';
import { archive } from '../support/tar-blocks.ts';
import { tarCases } from '../support/tar-corpus.ts';
import { readTar } from '../support/tar-read.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const plain: TarHeader = { path: 'a', type: 'file', mode: 0o644, mtime: { seconds: 1_700_000_000, nanoseconds: 0 } };

async function readBack(header: TarHeader): Promise<TarEntry> {
  const { entries } = await readTar(archive(encodeTarHeader({ ...header, size: 0 })));
  assert.equal(entries.length, 1);
  return entries[0]?.entry as TarEntry;
}

/** Everything that does not say how the entry is stored. */
function fieldsOf(entry: TarEntry): object {
  const { header: _header, offset: _offset, storedSize: _storedSize, sparse: _sparse, ...fields } = entry;
  return fields;
}

/** The records in front of a header, in order; none for a plain block. */
function recordsOf(header: Uint8Array): string[] {
  if (header.length === TAR_BLOCK) return [];
  const size = Number.parseInt(text(header.subarray(124, 135)), 8);
  const records: string[] = [];
  for (let at = TAR_BLOCK; at < TAR_BLOCK + size; ) {
    const length = Number.parseInt(text(header.subarray(at, at + 20)), 10);
    records.push(text(header.subarray(at, at + length)).replace(/^\d+ /, ''));
    at += length;
  }
  return records;
}

async function written(entries: Iterable<TarInput>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await writeTar(entries, async (bytes) => {
    parts.push(new Uint8Array(bytes));
  });
  return concat(parts);
}

describe('encodeTarHeader', () => {
  it('makes the blocks of the eStargz test vectors (formats/estargz.md 21.1)', () => {
    const landmark = encodeTarHeader({ path: '.no.prefetch.landmark', type: 'file', mode: 0, size: 1 });
    assert.equal(sha256(landmark), '47b2e9087ec5432f2d893c3e85d89f39366b39ac6e1b0a8f7ba9fc8ffd8a79a0');
    assert.equal(text(landmark.subarray(148, 156)), '013162\0 ');
    const hi = encodeTarHeader({ ...plain, path: 'hi.txt', size: 3 });
    assert.equal(sha256(hi), 'f7120786eb28f6a12788e52ed569cf5c918a65a3cab095baa89b2f068988890e');
    assert.equal(text(hi.subarray(148, 156)), '010401\0 ');
    const toc = encodeTarHeader({ path: 'stargz.index.json', type: 'file', mode: 0, size: 624 });
    assert.equal(sha256(toc), '2d98fed21b7cbd93b378977309f6e475cdbc0476defc47df390dee4d20972183');
  });

  it('stays plain ustar as long as everything fits', () => {
    const fits: TarHeader[] = [
      { ...plain, path: 'n'.repeat(100) },
      { ...plain, path: `${'p'.repeat(155)}/${'n'.repeat(100)}` },
      { ...plain, path: `${'p'.repeat(155)}/${'n'.repeat(99)}/`, type: 'directory' },
      { ...plain, type: 'symlink', linkName: 'l'.repeat(100) },
      { ...plain, uid: 0o7777777, gid: 0o7777777, size: 0o77777777777, mtime: { seconds: 0o77777777777, nanoseconds: 0 } },
      { ...plain, userName: 'u'.repeat(31), groupName: 'g'.repeat(31) },
      { ...plain, type: 'char', major: 0o7777777, minor: 0o7777777 },
      { ...plain, path: 'caf\udce9' },
      { ...plain, path: '' },
    ];
    for (const header of fits) assert.equal(encodeTarHeader(header).length, TAR_BLOCK, JSON.stringify(header));
  });

  it('puts into pax what does not fit, and nothing else', () => {
    const cases: [Partial<TarHeader>, string[]][] = [
      [{ path: 'n'.repeat(101) }, [`path=${'n'.repeat(101)}\n`]],
      [{ path: `${'p'.repeat(156)}/n` }, [`path=${'p'.repeat(156)}/n\n`]],
      [{ path: `/${'n'.repeat(100)}` }, [`path=/${'n'.repeat(100)}\n`]],
      [{ path: `${'d'.repeat(120)}/`, type: 'directory' }, [`path=${'d'.repeat(120)}/\n`]],
      [{ path: 'é' }, ['path=\xc3\xa9\n']],
      [{ type: 'symlink', linkName: 'l'.repeat(101) }, [`linkpath=${'l'.repeat(101)}\n`]],
      [{ uid: 0o7777777 + 1 }, ['uid=2097152\n']],
      [{ gid: 2 ** 32 - 1 }, ['gid=4294967295\n']],
      [{ size: 8 ** 11 }, ['size=8589934592\n']],
      [{ mtime: { seconds: 8 ** 11, nanoseconds: 0 } }, ['mtime=8589934592\n']],
      [{ mtime: { seconds: -1, nanoseconds: 0 } }, ['mtime=-1\n']],
      [{ mtime: { seconds: -1, nanoseconds: 500_000_000 } }, ['mtime=-0.5\n']],
      [{ mtime: { seconds: -3, nanoseconds: 1 } }, ['mtime=-2.999999999\n']],
      [{ mtime: { seconds: 0, nanoseconds: 1_000 } }, ['mtime=0.000001\n']],
      [{ atime: { seconds: 1, nanoseconds: 0 }, ctime: { seconds: 2, nanoseconds: 10 } }, ['atime=1\n', 'ctime=2.00000001\n']],
      [{ userName: 'u'.repeat(32), groupName: 'ü' }, ['gname=\xc3\xbc\n', `uname=${'u'.repeat(32)}\n`]],
      [{ type: 'block', major: 2 ** 21, minor: 2 ** 22 }, ['SCHILY.devmajor=2097152\n', 'SCHILY.devminor=4194304\n']],
      [{ xattrs: new Map([['user.b', Uint8Array.of(0xff, 10, 0)], ['user.a', new Uint8Array(0)]]) }, ['SCHILY.xattr.user.a=\n', 'SCHILY.xattr.user.b=\xff\n\0\n']],
      [{ path: `${'n'.repeat(101)}\udcff` }, ['hdrcharset=BINARY\n', `path=${'n'.repeat(101)}\xff\n`]],
    ];
    for (const [header, records] of cases) assert.deepEqual(recordsOf(encodeTarHeader({ ...plain, ...header })), records);
  });

  it('gives records lengths that count their own digits', () => {
    for (let size = 85; size < 110; size += 1) {
      const header = encodeTarHeader({ ...plain, xattrs: new Map([['user.a', new Uint8Array(size).fill(0x61)]]) });
      const length = Number.parseInt(text(header.subarray(512, 516)), 10);
      assert.equal(header[512 + length - 1], 0x0a);
      assert.equal(header[512 + length], 0);
    }
  });

  it('has a pax block of its own that depends on the entry only', () => {
    const header = encodeTarHeader({ ...plain, path: `dir/größe-${'n'.repeat(200)}/` });
    assert.equal(text(header.subarray(0, 100)), `PaxHeaders.0/gr__`.concat('__e-', 'n'.repeat(100)).slice(0, 100));
    assert.equal(text(header.subarray(100, 148)), `0000644\x000000000\x000000000\x00${text(header.subarray(124, 136))}00000000000\0`);
    assert.equal(text(header.subarray(156, 265)), `x${'\0'.repeat(100)}ustar\x0000`);
    assert.equal(text(header.subarray(329, 345)), '0000000\x000000000\0');
  });

  it('cuts the name that old readers see between characters', () => {
    const block = encodeTarHeader({ ...plain, path: 'é'.repeat(60) + 'x' }).subarray(-512);
    assert.equal(Buffer.from(block.subarray(0, 100)).toString(), 'é'.repeat(50));
    const odd = encodeTarHeader({ ...plain, path: `x${'é'.repeat(60)}` }).subarray(-512);
    assert.equal(Buffer.from(odd.subarray(0, 100)).toString(), `x${'é'.repeat(49)}\0`);
  });

  it('writes type bits of old modes again, and only a size where a payload is', async () => {
    assert.equal((await readBack({ ...plain, rawMode: 0o100644 })).rawMode, 0o100644);
    assert.equal((await readBack({ ...plain, rawMode: 2 ** 31 })).rawMode, 0o644);
    assert.equal(text(encodeTarHeader({ ...plain, type: 'hardlink', linkName: 'b', size: 4 }).subarray(124, 136)), '00000000000\0');
  });

  it('refuses what no tar header can say', () => {
    const bad: Partial<TarHeader>[] = [
      { path: 'a\0b' }, { type: 'symlink', linkName: '\0' }, { uid: -1 }, { size: 2 ** 53 }, { size: 0.5 }, { size: Number.NaN }, { mode: -1 }, { mode: 2 ** 24 },
      { xattrs: new Map([['a=b', new Uint8Array(1)]]) }, { xattrs: new Map([['', new Uint8Array(1)]]) },
      { mtime: { seconds: 0, nanoseconds: 1e9 } }, { mtime: { seconds: 0.5, nanoseconds: 0 } }, { atime: { seconds: 0, nanoseconds: -1 } },
    ];
    for (const header of bad) assert.throws(() => encodeTarHeader({ ...plain, ...header }), (error: LazypullError) => error.code === 'UNSUPPORTED', JSON.stringify(header));
  });
});

describe('write, then read', () => {
  const name = (maxLength: number): fc.Arbitrary<string> =>
    fc.oneof(
      fc.string({ maxLength }),
      fc.string({ unit: 'grapheme', maxLength }),
      fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '.', 'é'), maxLength: 40 }), { maxLength: 8 }).map((parts) => parts.join('/')),
      fc.uint8Array({ maxLength }).map((bytes) => decodeName(bytes.filter((byte) => byte !== 0))),
    ).map((text) => text.replaceAll('\0', ''));
  const plainly = { noNullPrototype: true } as const;
  const time = fc.record({ seconds: fc.oneof(fc.integer(), fc.integer({ min: -(2 ** 45), max: 2 ** 45 })), nanoseconds: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 })) }, plainly);
  const id = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
  const header: fc.Arbitrary<Required<TarHeader>> = fc.record({
    path: name(300).filter((path) => path !== ''),
    type: fc.constantFrom<TarType>('file', 'hardlink', 'symlink', 'char', 'block', 'directory', 'fifo'),
    linkName: name(300),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    rawMode: fc.constant(0),
    uid: id,
    gid: id,
    userName: name(40),
    groupName: name(40),
    mtime: time,
    atime: time,
    ctime: time,
    major: id,
    minor: id,
    size: fc.integer({ min: 0, max: 2000 }),
    xattrs: fc.array(fc.tuple(name(30).map((key) => `user.${decodeName(encodeName(key.replaceAll('=', '')))}`), fc.uint8Array({ maxLength: 300 })), { maxLength: 3 }).map((all) => new Map(all)),
  }, plainly);

  it('gives every field back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(header, { maxLength: 4 }), async (headers) => {
        const inputs = headers.map((each): TarInput => ({ ...each, rawMode: each.mode, body: new Uint8Array(each.type === 'file' ? each.size : 0).fill(0x61) }));
        const { entries } = await readTar(await written(inputs));
        assert.deepEqual(
          entries.map(({ entry, body }) => ({ ...fieldsOf(entry), body })),
          inputs.map((input) => {
            const device = input.type === 'char' || input.type === 'block';
            const linked = input.type === 'hardlink' || input.type === 'symlink';
            return {
              ...input,
              linkName: linked ? input.linkName : '',
              major: device ? input.major : 0,
              minor: device ? input.minor : 0,
              size: input.type === 'file' ? input.size : 0,
            };
          }),
        );
      }),
      { numRuns: 300 },
    );
  });

  it('an entry read from any archive can be written again', async () => {
    for (const { name: from, bytes, expected } of tarCases()) {
      if (expected !== 'ok') continue;
      const { entries } = await readTar(bytes);
      const again = await readTar(await written(entries.map(({ entry, body }) => ({ ...entry, body }))));
      assert.deepEqual(again.entries.map(({ entry, body }) => ({ ...fieldsOf(entry), body })), entries.map(({ entry, body }) => ({ ...fieldsOf(entry), body })), from);
    }
  });
});

describe('writeTar', () => {
  it('pads payloads and ends with two zero blocks', async () => {
    const bytes = await written([{ ...plain, body: Buffer.from('hello') }, { ...plain, path: 'b', size: 512, body: streamOf(new Uint8Array(500), new Uint8Array(12)) }, { ...plain, path: 'c', type: 'symlink', linkName: 'a' }]);
    assert.equal(bytes.length, 2 * 512 + 2 * 512 + 512 + 1024);
    assert.deepEqual(bytes.subarray(-1024), END_OF_ARCHIVE);
    const { entries } = await readTar(bytes);
    assert.deepEqual(entries.map(({ entry, body }) => [entry.path, body.length]), [['a', 5], ['b', 512], ['c', 0]]);
  });
  it('refuses payloads of another size than announced', async () => {
    for (const body of [streamOf(new Uint8Array(3)), streamOf(new Uint8Array(5)), new Uint8Array(5)]) {
      await assert.rejects(written([{ ...plain, size: 4, body }]), (error: LazypullError) => error.code === 'SIZE_MISMATCH' && error.path === 'a');
    }
    await assert.rejects(written([{ ...plain, type: 'directory', body: new Uint8Array(1) }]), (error: LazypullError) => error.code === 'SIZE_MISMATCH');
  });
  it('counts padding with plain arithmetic, past 4 GiB', () => {
    assert.deepEqual([0, 1, 511, 512, 513, 2 ** 40 + 1].map(paddingOf), [0, 511, 1, 0, 511, 511]);
  });
});
