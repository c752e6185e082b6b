import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { CountingSource, MemorySource } from '../../../src/core/source.ts';
import type { OpenLayer, RegularNode } from '../../../src/core/types.ts';
import { compareTrees } from '../../../src/layer/compare.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { walk } from '../../../src/layer/walk.ts';
import { scanTar } from '../../../src/image/scan.ts';
import { openSoci } from '../../../formats/soci/read.ts';
import { encodeZtoc } from '../../../formats/soci/ztoc.ts';
import { gzipLayouts } from '../../support/gzip-layouts.ts';
import { tarCases } from '../../support/tar-corpus.ts';
import { inPieces } from '../../support/tar-read.ts';
import { numbers } from '../../codec/samples.ts';
import { followed, indexed } from './made-by-writer.ts';
import { sampleImage, sampleTar } from './sample-image.ts';

const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean => error instanceof LazypullError && error.code === code && pattern.test(error.message);
const SIZES = [10, 5000, 40_000, 0, 1, 512, 70_000, 513, 3, 9000, 2, 33_000];
const TAR = Buffer.from(sampleTar(SIZES));
/** Little memory makes small blocks, and so small spans. */
const PACKED = gzipSync(TAR, { memLevel: 1 });

/** What Go's reader of tars, and so a zTOC and a container, has no notion of. */
const UNKNOWN_TO_GO: ReadonlySet<string> = new Set(['xattrsOfLibarchive a xattrs', 'devices dev/huge device']);

async function open(packed: Uint8Array, ztoc: Uint8Array): Promise<{ layer: OpenLayer; source: CountingSource }> {
  const { layers } = sampleImage([{ packed, ztoc }]);
  const [stored] = layers;
  assert.ok(stored);
  return { layer: await openSoci(stored), source: stored.source };
}

function filesOf(layer: OpenLayer): [string, RegularNode][] {
  return [...walk(layer.index.root)].flatMap(({ path, node }): [string, RegularNode][] => (node.type === 'file' ? [[path, node]] : []));
}

/** Every span by both decoders, which have to give the tar that the zTOC says it holds. */
async function checkSpans({ index, inflate, recheck = inflate }: OpenLayer, packed: Uint8Array, tar: Uint8Array): Promise<void> {
  let out = 0;
  for (const chunk of index.chunks) {
    const stored = packed.subarray(chunk.offset, chunk.offset + chunk.length);
    const wanted = Buffer.from(tar.subarray(out, out + chunk.size));
    for (const decode of [inflate, recheck]) assert.ok(wanted.equals(await decode(chunk, stored)), `span at ${chunk.offset}`);
    out += chunk.size;
  }
}

describe('openSoci', () => {
  it('reads any range of any file, however the layer was compressed', { timeout: 120_000 }, async () => {
    const random = numbers(7);
    const below = (limit: number): number => Math.floor(random() * limit);
    const bits = new Set<number>();
    let spans = 0;
    const contents = new Map<string, Buffer>();
    for (const { name, packed, tar, emptyStart } of gzipLayouts(TAR, { count: 80 })) {
      const { bytes, ztoc } = await indexed(packed, { spanSize: [1, 700, 20_000, 4 << 20][below(4)] as number, upstreamCheckpoints: !emptyStart && below(2) === 0 });
      assert.ok(ztoc.spans.algorithm === 'gzip');
      for (const checkpoint of ztoc.spans.checkpoints) bits.add(checkpoint.bits);
      const { layer } = await open(packed, bytes);
      assert.deepEqual(layer.problems, undefined, name);
      spans += layer.index.chunks.length;
      await checkSpans(layer, packed, tar);
      const reader = new LayerReader(layer, { maxRequest: 1 + below(200_000), gap: below(1000), cacheBytes: below(100_000) });
      for (const [path, node] of filesOf(layer)) {
        const from = ztoc.records.find((record) => record.name === `./${path}`)?.offset;
        if (from === undefined) continue;
        const offset = below(node.size + 1);
        const length = below(node.size + 2);
        const wanted = Buffer.from(tar.subarray(from + offset, Math.min(from + offset + length, from + node.size)));
        assert.ok(wanted.equals(await reader.readFile(node, offset, length, { path })), `${name}: ${path} ${offset}+${length}`);
        contents.set(path, Buffer.from(tar.subarray(from, from + node.size)));
      }
    }
    assert.deepEqual([...bits].sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.ok(spans > 1500 && contents.size === SIZES.length, `${spans} spans of ${contents.size} files`);
  });

  it('reads plain tars', async () => {
    await fc.assert(fc.asyncProperty(fc.integer({ min: 300, max: 90_000 }), fc.nat(20_000), fc.nat(80_000), async (spanSize, offset, length) => {
      const { bytes } = await indexed(TAR, { spanSize });
      const { layer } = await open(TAR, bytes);
      assert.equal(layer.facts?.algorithm, 'uncompressed');
      await checkSpans(layer, TAR, TAR);
      const reader = new LayerReader(layer);
      const node = nodeAt(layer.index.root, 'bin/file-6') as RegularNode;
      const start = TAR.indexOf(Buffer.from('./bin/file-6\0')) + 512;
      assert.ok(Buffer.from(TAR.subarray(start + offset, Math.min(start + 70_000, start + offset + length))).equals(await reader.readFile(node, offset, length)));
    }), { numRuns: 40 });
  });

  it('shows the tree of the tar, for every archive that can be indexed', async () => {
    let seen = 0;
    for (const { name, bytes: tar, expected } of tarCases()) {
      if (expected !== 'ok') continue;
      const packed = gzipSync(tar);
      const made = await followed(packed, { spanSize: 600 }).catch(() => undefined);
      if (!made || 'skipped' in made) continue;
      seen += 1;
      const { layers } = sampleImage([{ packed, ztoc: made.bytes }]);
      const scanned = await scanTar(inPieces(tar, [1000]), { what: name }).catch((error: unknown) => error as LazypullError);
      if (scanned instanceof LazypullError) {
        await assert.rejects(openSoci(layers[0] as StoredLayer), fails(scanned.code), name);
        continue;
      }
      const { layer } = await open(packed, made.bytes);
      const differences = [...compareTrees(scanned.root, layer.index.root, { names: true })].filter(({ path, kind }) => !UNKNOWN_TO_GO.has(`${name} ${path} ${kind}`));
      assert.deepEqual(differences, [], name);
      const reader = new LayerReader(layer);
      for (const [path, node] of filesOf(layer)) {
        const digest = digestOf(await reader.readFile(node, 0, node.size, { path }));
        assert.equal(digest, (nodeAt(scanned.root, path) as RegularNode).digest, `${name}: ${path}`);
      }
    }
    assert.ok(seen > 30, `${seen} archives`);
  });

  it('takes a small file from at most two spans, in one request', async () => {
    const packed = PACKED;
    const { bytes } = await indexed(packed, { spanSize: 8000 });
    const { layer, source } = await open(packed, bytes);
    assert.equal(source.requests, 0, 'the index is in the zTOC');
    const small = filesOf(layer).filter(([, node]) => node.size > 0 && node.size <= 5000);
    for (const [path, node] of small) {
      const spans = new Set([...node.extents, ...(layer.proof?.(node)?.extents ?? [])].map(({ chunk }) => chunk));
      const [requests, loaded]: readonly number[] = [source.requests, source.bytes];
      await new LayerReader(layer).readFile(node, 0, node.size, { path });
      assert.ok(spans.size <= 2);
      assert.equal(source.requests - (requests as number), 1);
      assert.ok(source.bytes - (loaded as number) <= [...spans].reduce((sum, { length }) => sum + length, 0));
    }
    assert.ok(small.length > 4);
  });

  it('proves a header once for each reader', async () => {
    const { bytes } = await indexed(TAR, { spanSize: 1 << 20 });
    const { layer } = await open(TAR, bytes);
    let proofs = 0;
    const counting: OpenLayer = { ...layer, proof: (node) => ((proofs += 1), layer.proof?.(node)) };
    const reader = new LayerReader(counting);
    const node = nodeAt(layer.index.root, 'bin/file-1') as RegularNode;
    for (let i = 0; i < 3; i++) await reader.readFile(node, i, 10);
    assert.equal(proofs, 1);
  });

  it('gives no byte of a span with another digest', async () => {
    const packed = PACKED;
    const { bytes, ztoc } = await indexed(packed, { spanSize: 8000 });
    const { layers } = sampleImage([{ packed, ztoc: bytes }]);
    for (const at of [40, 20_000, packed.length - 1]) {
      const other = Buffer.from(packed);
      other[at] = (other[at] as number) ^ 1;
      const layer = await openSoci({ ...(layers[0] as StoredLayer), source: new MemorySource(other) });
      const bad = new Set(layer.index.chunks.filter(({ offset, length }) => at >= offset && at < offset + length));
      assert.ok(bad.size === 1 || bad.size === 2);
      const reader = new LayerReader(layer);
      for (const [path, node] of filesOf(layer)) {
        const touched = [...node.extents, ...(layer.proof?.(node)?.extents ?? [])].some(({ chunk }) => bad.has(chunk));
        const reading = reader.readFile(node, 0, node.size, { path });
        if (touched && node.size > 0) await assert.rejects(reading, fails('DIGEST_MISMATCH', /stored bytes have digest sha256:/));
        else assert.equal((await reading).length, node.size);
      }
    }
    assert.ok(ztoc.spanDigests.length > 5);
  });

  it('refuses a file whose header says something else than the zTOC', async () => {
    const { ztoc } = await indexed(TAR, { spanSize: 5000 });
    const at = ztoc.records.findIndex(({ name }) => name === './bin/file-0');
    const changed = (change: object): Uint8Array => encodeZtoc({ ...ztoc, records: ztoc.records.map((record, i) => (i === at ? { ...record, ...change } : record)) });
    const read = async (bytes: Uint8Array): Promise<unknown> => {
      const { layer } = await open(TAR, bytes);
      const node = filesOf(layer).find(([path]) => path === 'bin/file-0' || path === 'bin/other')?.[1] as RegularNode;
      return new LayerReader(layer).readFile(node, 0, 3);
    };
    await read(changed({ userName: 'x', groupName: 'y', modTime: '2023-11-15T07:13:20.250+09:00' }));
    const xattr = ['SCHILY.xattr.user.number', Buffer.from('0')] as const;
    for (const [change, pattern] of [
      [{ name: 'bin/other' }, /name/], [{ size: 4 }, /size/], [{ modTime: '2023-11-14T22:13:20Z' }, /modification time/], [{ linkName: 'x' }, /link target/],
      [{ mode: 0o755 }, /mode 4755, the zTOC says 755/], [{ uid: 1 }, /user/], [{ gid: 1 }, /group/], [{ major: 1 }, /device/], [{ minor: 1 }, /device/],
      [{ pax: new Map() }, /xattrs/], [{ pax: new Map([xattr, ['SCHILY.xattr.user.more', Buffer.from('0')]]) }, /xattrs/], [{ pax: new Map([[xattr[0], Buffer.from('1')]]) }, /xattrs/],
    ] as const) await assert.rejects(read(changed(change)), fails('CORRUPT', pattern), JSON.stringify(change));
    // What is no xattr does not count.
    await read(changed({ pax: new Map([xattr, ['comment', Buffer.from('x')]]) }));
  });

  it('refuses a file in front of which there is anything but its header', async () => {
    const { ztoc } = await indexed(TAR, { spanSize: 5000 });
    const at = ztoc.records.findIndex(({ name }) => name === './bin/file-4');
    const { layer } = await open(TAR, encodeZtoc({ ...ztoc, records: ztoc.records.filter((_, i) => i !== at - 1) }));
    const node = nodeAt(layer.index.root, 'bin/file-4') as RegularNode;
    await assert.rejects(new LayerReader(layer).readFile(node, 0, 1), fails('CORRUPT', /bytes are a header/));
  });

  it('says what it found out', async () => {
    const packed = PACKED;
    const { bytes, ztoc } = await indexed(packed, { spanSize: 8000 });
    const { layers, fetched, index } = sampleImage([{ packed, ztoc: bytes, prefetch: [{ start: 1, end: 2 }, { start: 4, end: 900 }, { start: 901, end: 902 }] }]);
    const layer = await openSoci(layers[0] as StoredLayer);
    assert.deepEqual(layer.facts, {
      version: 'v2', algorithm: 'gzip', spans: ztoc.spanDigests.length, spanSize: 8000, tarSize: ztoc.tarSize, buildTool: ztoc.buildTool, ztocDigest: digestOf(bytes),
    });
    const { chunks } = layer.index;
    const last = chunks.at(-1);
    assert.deepEqual(layer.index.prefetch, [
      { offset: chunks[1]?.offset, end: (chunks[2]?.offset ?? 0) + (chunks[2]?.length ?? 0) },
      { offset: chunks[4]?.offset, end: (last?.offset ?? 0) + (last?.length ?? 0) },
    ]);
    assert.equal(fetched.length, 3);
    assert.equal(fetched[0], index.digest);
    assert.ok(layer.indexBytes > bytes.length);
    const wrong = sampleImage([{ packed, ztoc: bytes, prefetch: Buffer.from('{}') }]);
    assert.match((await openSoci(wrong.layers[0] as StoredLayer)).problems?.join() ?? '', /prefetch list/);
  });

  it('refuses the zTOC of another layer, and one that is no zTOC', async () => {
    const packed = PACKED;
    const { bytes } = await indexed(packed);
    const longer = Buffer.concat([packed, Buffer.alloc(1)]);
    await assert.rejects(open(longer, bytes), fails('CORRUPT', /is about a layer of \d+ bytes/));
    await assert.rejects(open(packed, Buffer.from('nonsense')), fails('CORRUPT'));
    const { layers, blobs } = sampleImage([{ packed, ztoc: bytes }]);
    blobs.delete(digestOf(bytes));
    await assert.rejects(openSoci(layers[0] as StoredLayer), fails('NOT_FOUND'));
  });
});
