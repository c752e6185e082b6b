import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeModTime, encodeModTime } from '../../../formats/soci/mod-time.ts';
import { concat } from '../../../src/core/bytes.ts';
import { paddingOf } from '../../../src/tar/layout.ts';
import { archive, base256, entries, GNU, gnuLong, paxHeader, rawEntry, rawHeader, V7 } from '../../support/tar-blocks.ts';
import { directory, file, tarCases } from '../../support/tar-corpus.ts';
import { readTar } from '../../support/tar-read.ts';
import { headerOffsets } from './header-offsets.ts';
import { followed, indexed } from './made-by-writer.ts';
import type { ZtocRecord } from '../../../formats/soci/layout.ts';

async function only(...blocks: readonly Uint8Array[]): Promise<ZtocRecord> {
  const { records } = (await indexed(archive(...blocks))).ztoc;
  assert.equal(records.length, 1);
  return records[0] as ZtocRecord;
}

async function skipped(...blocks: readonly Uint8Array[]): Promise<string> {
  const result = await followed(archive(...blocks));
  assert.ok('skipped' in result, 'the layer is indexed');
  return result.skipped;
}

describe('hard archives', () => {
  // Held against the official builder and the checks of its snapshotter, Go 1.26: these are what it cannot read.
  const SKIPPED = new Map<string, RegExp>([
    ['base256Numbers', /^"a" has a modification time outside/],
    ['paxGlobal', /^"a" has a global pax header in front of it/],
    ['paxBeforeGlobal', /global/],
    ['paxGlobalXattr', /global/],
    ['paxGlobalHoles', /global/],
    ['paxGlobalValues', /global/],
    ['gnuSparse', /^"sparse" is a sparse file, which soci-snapshotter cannot read$/],
    ['gnuSparseExtended', /sparse/],
    ['paxSparse00', /sparse/],
    ['paxSparse01', /sparse/],
    ['paxSparse10', /sparse/],
    ['sparseOnlyHole', /sparse/],
    ['hardLinkForward', /^hard link "b" points to "a", which comes later or not at all$/],
    ['hardLinkOutOfLayer', /comes later or not at all/],
    ['climbingHardLink', /comes later or not at all/],
  ]);
  for (const { name, bytes, expected } of tarCases()) {
    if (bytes instanceof Uint8Array === false || bytes.length === 0) continue;
    it(`${name}: ${expected === 'ok' && !SKIPPED.has(name) ? 'indexed' : SKIPPED.has(name) || expected === 'UNSUPPORTED' || expected === 'LIMIT' ? 'left out' : expected}`, async () => {
      // Paths are not for the index to judge.
      const readable = expected === 'ok' || (await readTar(bytes).then(() => true, () => false));
      if (!readable && expected === 'CORRUPT') {
        await assert.rejects(followed(bytes), { code: 'CORRUPT' });
        return;
      }
      const result = await followed(bytes);
      const reason = SKIPPED.get(name);
      if (reason || !readable) {
        assert.match('skipped' in result ? result.skipped : 'indexed', reason ?? /^layer: /);
        return;
      }
      if ('skipped' in result) assert.fail(result.skipped);
      const { entries: all } = await readTar(bytes, { raw: true });
      const { records } = result.ztoc;
      assert.deepEqual(records.map((r) => r.name), all.map(({ entry }) => entry.path));
      // Derived header offsets are where the headers are, and the data is the data.
      assert.deepEqual(headerOffsets(result.ztoc), all.map(({ entry }) => entry.offset));
      all.forEach(({ entry, body }, i) => {
        const { offset, size, type, mode, uid, gid } = records[i] as ZtocRecord;
        assert.deepEqual(Buffer.from(bytes.subarray(offset, offset + size)), Buffer.from(body));
        assert.deepEqual({ mode, uid, gid, regular: type === 'reg' }, { mode: entry.rawMode, uid: entry.uid, gid: entry.gid, regular: entry.type === 'file' });
        assert.equal((offset + size + paddingOf(size)) % 512, 0);
      });
    });
  }
});

describe('what a record takes from the header', () => {
  it('names and links as they stand, also a link that a file does not need', async () => {
    assert.equal((await only(rawEntry({ name: './a//b', linkName: 'odd' }))).linkName, 'odd');
    assert.equal((await only(gnuLong('K', 'long'), rawEntry({ name: 'a', linkName: 'odd', magic: GNU }))).linkName, 'long');
    assert.equal((await only(paxHeader([['linkpath', 'pax']]), rawEntry({ name: 'a', linkName: 'odd' }))).linkName, 'pax');
    assert.equal((await only(paxHeader([['linkpath', '']]), rawEntry({ name: 'a', linkName: 'odd' }))).linkName, 'odd');
    const link = await only(rawHeader({ name: '/l\udcff', typeflag: '2', linkName: '../t\udcfe' }));
    assert.deepEqual([link.name, link.linkName, link.type], ['/l\udcff', '../t\udcfe', 'symlink']);
  });

  it('device numbers of any entry, as Go does; not those of pax, which Go does not know', async () => {
    const numbers = async (...blocks: Uint8Array[]): Promise<number[]> => {
      const { major, minor } = await only(...blocks);
      return [major, minor];
    };
    assert.deepEqual(await numbers(rawEntry({ name: 'a', major: '0000007\0', minor: '0000001\0' })), [7, 1]);
    assert.deepEqual(await numbers(rawEntry({ name: 'a', major: '0000007\0', magic: V7 })), [0, 0]);
    assert.deepEqual(await numbers(paxHeader([['SCHILY.devmajor', '9']]), rawHeader({ name: 'd', typeflag: '3', major: '0000007\0' })), [7, 0]);
  });

  it('the mode with its type bits, ids, owners, all pax records', async () => {
    const record = await only(
      paxHeader([['uid', '4294967295'], ['uname', 'größe'], ['VENDOR.a', 'b'], ['SCHILY.xattr.user.x', Uint8Array.of(0, 0xff)]]),
      rawEntry({ name: 'a', mode: '0104755\0', gid: '0000005\0', userName: 'short', groupName: 'g' }, 'x'),
    );
    assert.deepEqual([record.mode, record.uid, record.gid, record.userName, record.groupName], [0o104755, 0xffff_ffff, 5, 'größe', 'g']);
    assert.deepEqual([...record.pax.keys()].sort(), ['SCHILY.xattr.user.x', 'VENDOR.a', 'uid', 'uname']);
    assert.deepEqual(record.pax.get('SCHILY.xattr.user.x'), Uint8Array.of(0, 0xff));
  });

  it('no size for what has no data', async () => {
    const { ztoc } = await indexed(archive(entries(file('a', 'data')), rawHeader({ name: 'b', typeflag: '1', linkName: 'a', size: 4 }), entries(file('c', 'more'))));
    assert.deepEqual(ztoc.records.map(({ name, size }) => [name, size]), [['a', 4], ['b', 0], ['c', 4]]);
  });
});

describe('global headers', () => {
  it('in front of a directory are part of its header; in front of a file nobody could read it', async () => {
    const global = paxHeader([['comment', 'c0ffee']], 'g');
    const { ztoc } = await indexed(archive(global, entries(directory('d/'), file('d/a', 'x'))));
    assert.deepEqual(headerOffsets(ztoc), [0, 1536]);
    assert.match(await skipped(entries(directory('d/')), global, entries(file('d/a', 'x'))), /^"d\/a" has a global pax header/);
  });
});

describe('headers that Go does not read', () => {
  it('of files leave the layer out', async () => {
    assert.match(await skipped(rawEntry({ name: 'a', minor: 'junk' })), /^"a" has a number in its header that Go does not accept/);
    assert.match(await skipped(rawEntry({ name: 'a', mode: '0644 \0x\0' })), /number/);
    assert.match(await skipped(rawEntry({ name: 'a', major: '', minor: '' }), rawEntry({ name: 'b', magic: GNU, major: '-1' })), /^"b" has a number/);
    assert.match(await skipped(concat([rawEntry({ name: 'x', typeflag: 'x', minor: 'junk' }, '12 uid=4711\n')]), rawEntry({ name: 'a' })), /number/);
    assert.match(await skipped(rawEntry({ name: 'a', mode: '0040755\0' })), /mode of something else/);
    assert.match(await skipped(rawEntry({ name: 'a', magic: GNU, mtime: base256(2 ** 40, 12) })), /modification time/);
    assert.match(await skipped(paxHeader([['VENDOR.big', 'x'.repeat(1 << 20)]]), rawEntry({ name: 'a' })), /more than 1 MiB/);
  });

  it('of other entries do not matter, nor do odd spellings that Go takes', async () => {
    assert.equal((await only(rawHeader({ name: 'd/', typeflag: '5', minor: 'junk' }))).minor, 0);
    assert.equal((await only(rawHeader({ name: 'd/', typeflag: '5', magic: GNU, mtime: base256(2 ** 40, 12) }))).modTime, '');
    assert.equal((await only(rawEntry({ name: 'a', mode: ' 644 \0\0 ', mtime: '  17 \0', uid: '', gid: '     0 \0' }))).mode, 0o644);
    assert.equal((await only(rawEntry({ name: 'a', mode: '0644\0x\0' }))).mode, 0o644);
    assert.equal((await only(rawEntry({ name: 'a', typeflag: '7' }, 'data'))).type, 'reg');
  });
});

describe('times', () => {
  const cases: readonly (readonly [number, number, string])[] = [
    [1_700_000_000, 0, '2023-11-14T22:13:20Z'],
    [1_700_000_000, 250_000_000, '2023-11-14T22:13:20.25Z'],
    [0, 1, '1970-01-01T00:00:00.000000001Z'],
    [-1, 999_999_999, '1969-12-31T23:59:59.999999999Z'],
    [-62_135_596_800, 0, '0001-01-01T00:00:00Z'],
    [-62_167_219_200, 0, '0000-01-01T00:00:00Z'],
    [253_402_300_799, 0, '9999-12-31T23:59:59Z'],
  ];
  for (const [seconds, nanoseconds, text] of cases) {
    it(text, () => {
      assert.equal(encodeModTime({ seconds, nanoseconds }), text);
      assert.deepEqual(decodeModTime(text, 'a'), { seconds, nanoseconds });
    });
  }
  it('outside four-digit years there are none', () => {
    assert.equal(encodeModTime({ seconds: 253_402_300_800, nanoseconds: 0 }), '');
    assert.equal(encodeModTime({ seconds: -62_167_219_201, nanoseconds: 999_999_999 }), '');
    assert.equal(encodeModTime({ seconds: Number.MAX_SAFE_INTEGER, nanoseconds: 0 }), '');
  });
});
