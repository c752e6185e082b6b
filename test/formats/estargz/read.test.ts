import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect } from '../../../src/core/stream.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import type { Descriptor, DirectoryNode, RegularNode } from '../../../src/core/types.ts';
import { lookup } from '../../../src/layer/lookup.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { estargz } from '../../../formats/estargz/index.ts';
import { encodeFooter, encodeTocEntry, TOC_HEAD, TOC_NAME, TOC_TAIL, type FooterKind, type TocEntry } from '../../../formats/estargz/layout.ts';
import { fixtures, loadPairs, type Pair } from '../../../fixtures/pairs.ts';
import { convertTar, lonelyImage, stored, strangers } from '../../support/layers.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file, simple } from '../../support/tar-corpus.ts';

function layerOf(kind: string, { blob, facts }: Pair): StoredLayer {
  const { mediaType, digest, size, annotations, externalToc } = facts;
  return {
    descriptor: { mediaType, digest, size, annotations } as Descriptor,
    source: new MemorySource(blob),
    image: lonelyImage({
      sibling: async () => {
        if (!externalToc) return undefined;
        const toc = readFileSync(join(fixtures, kind, 'estargz', externalToc.layer));
        return [{ descriptor: { mediaType, ...externalToc } as unknown as Descriptor, source: new MemorySource(toc) }];
      },
    }),
  };
}

/** Reads every file of a layer; a chunk or file that is not what its digest says throws. */
async function readAll(layer: StoredLayer): Promise<void> {
  const opened = await estargz.open(layer);
  const reader = new LayerReader(opened);
  for (const { path, node } of walk(opened.index.root)) {
    if (node.type === 'file') for await (const _ of reader.stream(node, { path }));
  }
}

for (const kind of ['golden', 'foreign'] as const) {
  for (const pair of loadPairs(kind, 'estargz')) {
    test(`${kind} ${pair.name}: ${pair.facts.about}`, async () => {
      const layer = layerOf(kind, pair);
      assert.ok(await estargz.detect(layer));
      const opened = await estargz.open(layer);
      const { file: known } = pair.facts;
      if (known) {
        const node = lookup(opened.index.root, known.path)?.node as RegularNode;
        const bytes = await collect(new LayerReader(opened).stream(node), 1 << 24);
        assert.deepEqual({ size: bytes.length, digest: digestOf(bytes) }, { size: known.size, digest: known.digest });
      }
      await readAll(layer);
    });
  }
}

for (const pair of loadPairs('broken', 'estargz')) {
  test(`broken ${pair.name}: ${pair.facts.about}`, async () => {
    const expected = (error: unknown): boolean => error instanceof LazypullError && error.code === pair.facts.code;
    const layer = layerOf('broken', pair);
    if (pair.facts.at === 'open') await assert.rejects(estargz.open(layer), expected);
    else await assert.rejects(readAll(layer), expected);
  });
}

/** A blob with any TOC. Payloads are one stored member each of 'hello', from offset 0 on. */
function blobWith(records: readonly TocEntry[], kind: FooterKind = 'estargz', json?: string): Uint8Array {
  const members = Buffer.concat(Array.from({ length: 4 }, () => gzipSync('hello')));
  const text = json ?? `${TOC_HEAD}${records.map(encodeTocEntry).join(',')}${TOC_TAIL}`;
  const toc = gzipSync(archive(entries({ path: TOC_NAME, type: 'file', mode: 0, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, body: text })));
  return Buffer.concat([members, toc, encodeFooter({ kind, tocOffset: members.length })]);
}

const MEMBER = gzipSync('hello').length;
const refuses = (code: ErrorCode, text: RegExp) => (error: unknown) => error instanceof LazypullError && error.code === code && text.test(error.message);

test('TOCs that lie are refused, and the message names the entry', async () => {
  const cases: [string, TocEntry[], RegExp][] = [
    ['a chunk first', [{ name: 'a', type: 'chunk', offset: MEMBER }], /follows no file/],
    ['a payload behind the TOC', [{ name: 'a', type: 'reg', size: 5, offset: 1 << 20 }], /outside the blob/],
    ['chunks with a gap', [{ name: 'a', type: 'reg', size: 10, offset: MEMBER, chunkSize: 5 }, { name: 'a', type: 'chunk', offset: 2 * MEMBER, chunkOffset: 6 }], /instead of 5/],
    ['chunks that end early', [{ name: 'a', type: 'reg', size: 10, offset: MEMBER, chunkSize: 5 }], /hold 5 bytes/],
    ['a chunk longer than its file', [{ name: 'a', type: 'reg', size: 5, offset: MEMBER, chunkSize: 6 }], /does not fit/],
    ['a digest that is none', [{ name: 'a', type: 'reg', size: 5, offset: MEMBER, chunkDigest: 'md5:00' }], /not a digest/],
    ['an xattr that is not base64', [{ name: 'a', type: 'dir', xattrs: { 'user.a': '*' } }], /base64/],
    ['a name that climbs', [{ name: '../a', type: 'dir' }], /climbs/],
    ['a link to nothing', [{ name: 'a', type: 'hardlink', linkName: 'b' }], /not in this layer/],
    ['links in a circle', [{ name: 'a', type: 'hardlink', linkName: 'b' }, { name: 'b', type: 'hardlink', linkName: 'a' }], /circle|itself/],
    ['a landmark behind everything', [{ name: '.prefetch.landmark', type: 'reg', offset: 1 << 30 }], /landmark/],
    ['a time that is none', [{ name: 'a', type: 'dir', modtime: 'now' }], /RFC 3339/],
    ['a root that is a file', [{ name: '/', type: 'fifo' }], /root/],
  ];
  for (const [what, records, text] of cases) await assert.rejects(estargz.open(strangers(blobWith(records))), refuses('CORRUPT', text), what);
});

test('a file may have more chunks than a call has room for arguments', async () => {
  const size = 200_000;
  const records: TocEntry[] = [{ name: 'a', type: 'reg', size, offset: MEMBER, chunkSize: 1 }];
  for (let at = 1; at < size; at++) records.push({ name: 'a', type: 'chunk', offset: MEMBER, chunkOffset: at, chunkSize: 1 });
  assert.equal((await estargz.open(strangers(blobWith(records)))).index.chunks.length, size);
});

test('a TOC digest that is not the annotation is a DIGEST_MISMATCH', async () => {
  const layer = strangers(blobWith([]), { 'containerd.io/snapshot/stargz/toc.digest': digestOf(Buffer.from('other')) });
  await assert.rejects(estargz.open(layer), refuses('DIGEST_MISMATCH', /annotation/));
});

test('an empty TOC is an empty root; a TOC without entries too', async () => {
  for (const json of ['{"version":1,"entries":[]}', '{"version":1}']) {
    const { index } = await estargz.open(strangers(blobWith([], 'estargz', json)));
    assert.deepEqual([index.root.children.size, index.root.mode, index.chunks.length], [0, 0o755, 0]);
  }
});

test('what the reference reader fills in is filled in: missing parents, absent times, file digests for chunk digests', async () => {
  const hello = digestOf(Buffer.from('hello'));
  const blob = blobWith([{ name: './opt/app/run', type: 'reg', size: 5, offset: MEMBER, digest: hello, mode: 0o100755 }], 'legacy');
  const opened = await estargz.open(strangers(blob));
  const node = lookup(opened.index.root, 'opt/app/run')?.node as RegularNode;
  assert.deepEqual([node.mode, node.mtime.seconds, node.extents[0]?.chunk.digest], [0o755, -62_135_596_800, hello]);
  const parent = lookup(opened.index.root, 'opt/app')?.node as DirectoryNode;
  assert.deepEqual([parent.mode, parent.implied], [0o755, true]);
  assert.equal(Buffer.from(await new LayerReader(opened).readFile(node, 0, 5)).toString(), 'hello');
});

test('user and group names are carried forward by id', async () => {
  const { index } = await estargz.open(strangers(blobWith([{ name: 'a', type: 'dir', uid: 5, userName: 'eve' }, { name: 'b', type: 'dir', uid: 5 }, { name: 'c', type: 'dir' }])));
  assert.deepEqual(['a', 'b', 'c'].map((name) => index.root.children.get(name)?.userName), ['eve', 'eve', undefined]);
});

test('detect says no to what is not eStargz; only a source that cannot be read throws', async () => {
  for (const [what, layer] of [
    ['a plain gzip', strangers(gzipSync('x'.repeat(1000)))],
    ['an empty blob', strangers(new Uint8Array(0))],
    ['another media type', strangers(blobWith([]), {}, 'application/vnd.oci.image.layer.v1.tar+zstd')],
  ] as const) {
    assert.equal(await estargz.detect(layer), false, what);
  }
  assert.equal(await estargz.detect(strangers(blobWith([]))), true);
  // A layer that nobody could look at is not a layer of another format: converting it again would be wrong.
  const gone = { size: 100, read: async () => Promise.reject(new LazypullError('NETWORK', 'gone')) };
  await assert.rejects(estargz.detect({ ...strangers(blobWith([])), source: gone }), refuses('NETWORK', /gone/));
});

test('adopt takes what can be verified and fills in the annotation', async () => {
  const converted = await convertTar(estargz, simple(), {});
  const bare = strangers(converted.blob);
  const adopted = await estargz.adopt(bare);
  assert.equal(adopted?.descriptor.digest, converted.layer.descriptor.digest);
  assert.equal(adopted?.descriptor.annotations?.['containerd.io/snapshot/stargz/toc.digest'], converted.layer.descriptor.annotations?.['containerd.io/snapshot/stargz/toc.digest']);
  assert.deepEqual([adopted?.entries, adopted?.chunks], [converted.layer.entries, converted.layer.chunks]);
  assert.equal(await estargz.adopt(strangers(blobWith([{ name: 'a', type: 'reg', size: 5, offset: MEMBER }]))), undefined, 'no chunk digests');
  assert.equal(await estargz.adopt(strangers(blobWith([], 'legacy'))), undefined, 'legacy');
});

test('an external TOC is found beside the image, and missed with a clear error', async () => {
  const converted = await convertTar(estargz, archive(entries(file('a', 'x'))), { externalToc: true });
  await estargz.open(stored(converted));
  const lonely = { descriptor: converted.layer.descriptor, source: new MemorySource(converted.blob) };
  await assert.rejects(estargz.open(lonely), refuses('NOT_FOUND', /-esgztoc/));
});

test('what keeps a verifying reader away is told, and so are landmark and tar size', async () => {
  const good = await convertTar(estargz, simple(), {});
  const opened = await estargz.open(stored(good));
  assert.deepEqual([opened.problems, opened.facts?.['landmark'], opened.tarSize], [[], '.no.prefetch.landmark', good.layer.tarSize]);
  const legacy = await estargz.open(strangers(blobWith([{ name: 'a', type: 'reg', size: 5, offset: MEMBER }], 'legacy')));
  assert.equal(legacy.facts?.['landmark'], 'none');
  assert.match(legacy.problems?.join('; ') ?? '', /no annotation .*toc\.digest.*legacy.*1 payloads have no chunkDigest, "a"/);
});
