import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { DeviceNode, RegularNode } from '../../../src/core/types.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { walk } from '../../../src/layer/walk.ts';
import type { Ztoc, ZtocRecord } from '../../../formats/soci/layout.ts';
import { decodeModTime, encodeModTime } from '../../../formats/soci/mod-time.ts';
import { buildIndex, buildTree } from '../../../formats/soci/toc-tree.ts';
import { madeZtoc, type Made } from './made-ztoc.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean => error instanceof LazypullError && error.code === code && pattern.test(error.message);

const ENTRIES: readonly Made[] = [
  { name: './', type: 'dir' }, { name: './bin/', type: 'dir' }, { name: './bin/a', size: 3000, pax: { 'SCHILY.xattr.user.x': '1', 'LIBARCHIVE.xattr.user.y': 'MQ', mtime: '1' } },
  { name: 'bin/b', type: 'hardlink', linkName: './bin/a' }, { name: '/etc//deep/../link', type: 'symlink', linkName: '../bin/a' }, { name: 'dev/tty', type: 'char' },
  { name: 'dev/sda', type: 'block' }, { name: 'fifo', type: 'fifo' }, { name: 'empty' }, { name: 'bin/late', size: 700 },
];

function withRecord(entries: readonly Made[], at: number, changes: Partial<ZtocRecord>): Ztoc {
  const ztoc = madeZtoc(entries);
  return { ...ztoc, records: ztoc.records.map((record, i) => (i === at ? { ...record, ...changes } : record)) };
}

test('records become the tree, under clean names', () => {
  const ztoc = withRecord(ENTRIES, 5, { major: 5, minor: 300 });
  const { index, files, problems, spans } = buildTree(ztoc, 'zTOC');
  assert.deepEqual(problems, []);
  assert.deepEqual([...walk(index.root)].map(({ path, node }) => `${path} ${node.type}`), [
    ' directory', 'bin directory', 'bin/a file', 'bin/b file', 'bin/late file', 'etc directory', 'etc/link symlink', 'dev directory', 'dev/tty char', 'dev/sda block', 'fifo fifo', 'empty file',
  ]);
  const a = nodeAt(index.root, 'bin/a') as RegularNode;
  assert.equal(nodeAt(index.root, 'bin/b'), a);
  assert.deepEqual([...a.xattrs], [['user.x', Buffer.from('1')]]);
  assert.deepEqual([(nodeAt(index.root, 'dev/tty') as DeviceNode).major, (nodeAt(index.root, 'dev/tty') as DeviceNode).minor], [5, 300]);
  assert.deepEqual(a.mtime, { seconds: 1_700_000_000, nanoseconds: 0 });
  // Three headers in front, then 3000 bytes over spans of 1024.
  assert.deepEqual(a.extents.map(({ fileOffset, length, chunk, chunkOffset }) => [fileOffset, length, chunk.offset, chunkOffset]), [[0, 512, 1024, 512], [512, 1024, 2048, 0], [1536, 1024, 3072, 0], [2560, 440, 4096, 0]]);
  assert.deepEqual((nodeAt(index.root, 'empty') as RegularNode).extents, []);
  assert.deepEqual(files.get(a)?.headerStart, 1024);
  assert.deepEqual(spans.chunks.map(({ packedDigest }) => packedDigest), ztoc.spanDigests);
  assert.deepEqual(buildIndex(ztoc, 'zTOC').chunks, spans.chunks);
});

test('extents cover exactly what they are asked for', () => {
  const { spans } = buildTree(madeZtoc([{ name: 'a', size: 9000 }], 700), 'zTOC');
  fc.assert(fc.property(fc.nat(9000), fc.nat(9000), (one, other) => {
    const [start, end] = [Math.min(one, other), Math.max(one, other)];
    let at = start;
    for (const { fileOffset, length, chunk, chunkOffset } of spans.extents(start, end)) {
      assert.ok(length > 0 && chunkOffset + length <= chunk.size);
      assert.deepEqual([fileOffset, chunk.offset + chunkOffset], [at - start, at]);
      at += length;
    }
    assert.equal(at, end);
  }));
  assert.throws(() => spans.extents(0, 1 << 20), fails('CORRUPT'));
});

test('order of records does not matter, their places do', () => {
  const ztoc = madeZtoc(ENTRIES);
  assert.deepEqual(buildIndex({ ...ztoc, records: ztoc.records.toReversed() }, 'zTOC'), buildIndex(ztoc, 'zTOC'));
});

test('lies about places are refused', () => {
  const cases: [number, Partial<ZtocRecord>, RegExp][] = [
    [0, { offset: 0 }, /no room for its header/], [2, { offset: 1024 }, /no room/], [2, { offset: 1100 }, /no room/], [2, { size: 4000 }, /no room/], [2, { size: 2 ** 53 - 1 }, /file of|record of/],
    [9, { size: 1 << 20 }, /where its spans do not reach/], [8, { offset: 1 << 20 }, /content at byte/], [9, { offset: -512 }, /record of/], [9, { size: -1 }, /record of/], [9, { size: 2 ** 60 }, /record of/],
    [2, { name: '../x' }, /climbs above the root/], [2, { name: '/../x' }, /climbs/], [3, { linkName: '../../x' }, /climbs/], [3, { linkName: 'nowhere' }, /not in this layer/], [2, { name: '' }, /root of the layer/],
    [2, { name: 'a\0b' }, /NUL/], [4, { linkName: '' }, /without a target/], [5, { major: -1 }, /device number/], [6, { minor: 2 ** 32 }, /device number/], [1, { modTime: 'today' }, /no RFC 3339 time/],
  ];
  for (const [at, changes, pattern] of cases) assert.throws(() => buildTree(withRecord(ENTRIES, at, changes), 'zTOC x'), fails('CORRUPT', pattern), JSON.stringify(changes));
});

test('links with a size are no obstacle here, but to a snapshotter', () => {
  const { problems, files } = buildTree(withRecord(ENTRIES, 3, { size: 700 }), 'zTOC');
  assert.match(problems.join(), /overlap when the sizes of links count: a snapshotter refuses/);
  assert.equal(files.size, 3);
});

test('times have any zone, and nanoseconds', () => {
  for (const [text, seconds, nanoseconds] of [
    ['1970-01-01T00:00:00Z', 0, 0], ['2023-11-14T22:13:20.25Z', 1_700_000_000, 250_000_000], ['2023-11-15T07:13:20+09:00', 1_700_000_000, 0], ['2023-11-14T17:43:20.000000001-04:30', 1_700_000_000, 1],
    ['1969-12-31T23:59:59.999999999Z', -1, 999_999_999], ['0000-01-01T00:00:00Z', -62_167_219_200, 0], ['0099-02-28T00:00:00Z', -59_037_984_000, 0], ['2024-02-29T00:00:00.1234567899Z', 1_709_164_800, 123_456_789], ['', -62_135_596_800, 0],
  ] as const) assert.deepEqual(decodeModTime(text, 'a'), { seconds, nanoseconds }, text);
  for (const text of ['2023-02-29T00:00:00Z', '2023-13-01T00:00:00Z', '2023-01-01T24:00:00Z', '2023-01-01T00:60:00Z', '2023-01-01T00:00:60Z', '2023-01-01T00:00:00', '2023-01-01 00:00:00Z', '2023-01-01T00:00:00+24:00', '20230-01-01T00:00:00Z', '\n2023-01-01T00:00:00Z']) {
    assert.throws(() => decodeModTime(text, 'a'), fails('CORRUPT', /no RFC 3339 time/), text);
  }
  fc.assert(fc.property(fc.integer({ min: -62_167_219_200, max: 253_402_300_799 }), fc.nat(999_999_999), (seconds, nanoseconds) => {
    assert.deepEqual(decodeModTime(encodeModTime({ seconds, nanoseconds }), 'a'), { seconds, nanoseconds });
  }));
});
