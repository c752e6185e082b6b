import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestHex, digestOf } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { CountingSource, MemorySource } from '../../../src/core/source.ts';
import { nodeAt } from '../../../src/layer/tree.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import type { RegularNode } from '../../../src/core/types.ts';
import { BLOB_ENTRY_SIZE, EXTENSION_OFFSET } from '../../../formats/nydus/bootstrap-layout.ts';
import { nydus, type NydusOptions } from '../../../formats/nydus/index.ts';
import { ANNOTATION, BLOB_MEDIA_TYPE } from '../../../formats/nydus/layout.ts';
import { openNydus } from '../../../formats/nydus/read.ts';
import type { RafsChunk } from '../../../formats/nydus/read-chunks.ts';
import { openRafs } from '../../../formats/nydus/tree.ts';
import { convertTars } from './images.ts';
import { lonelyImage, strangers } from '../../support/layers.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import { bootstrapLayer, madeRafs, placesOf, shown, TARS } from './samples.ts';

const fails = (code: ErrorCode, text: RegExp): ((error: unknown) => boolean) => (error) => error instanceof LazypullError && error.code === code && text.test(error.message);
const WAYS: Readonly<Record<string, NydusOptions>> = { default: {}, sha256: { digester: 'sha256', compressor: 'lz4' }, batches: { batchSize: 65_536 }, stored: { compressor: 'none' } };

describe('Nydus images', () => {
  it('show one tree, which the bootstrap layer describes, and empty data layers', async () => {
    const { image } = await convertTars(TARS);
    const opened = await Promise.all(image.layers.map((layer) => layer.open()));
    assert.deepEqual(opened.map(({ describes }) => describes), [undefined, undefined, 'image']);
    for (const { index, facts, indexBytes } of opened.slice(0, -1)) {
      assert.equal(index.root.children.size, 0);
      assert.equal(index.chunks.length, 0);
      assert.match(String(facts?.['members']), /^image\.blob blob\.meta blob\.meta\.header blob\.digest image\.boot$/);
      assert.ok(indexBytes > 4096);
    }
    const [, , whole] = opened;
    assert.deepEqual([whole?.facts?.['fsVersion'], whole?.facts?.['blobs'], whole?.facts?.['digester']], [6, 2, 'blake3']);
    assert.deepEqual([...(await image.tree()).children.keys()].includes('.wh.noise'), false);
    assert.equal(Buffer.from(await image.readFile('/etc/hosts')).toString(), '127.0.0.1 localhost\n');
    assert.equal((await image.find('/hosts', {}))?.node, (await image.find('/etc/hosts', {}))?.node, 'hard links stay');
  });

  it('are read alike with tables from the bootstrap layer, from the blobs, and with digests from either', async () => {
    for (const [name, options] of Object.entries(WAYS)) {
      const { bootstrap, metas, blobs } = await madeRafs(options);
      const near = await openRafs(new MemorySource(bootstrap), placesOf(blobs, metas));
      const far = await openRafs(new MemorySource(bootstrap), placesOf(blobs));
      // Without its chunk table the bootstrap knows no digests.
      const bare = Buffer.from(bootstrap);
      bare.fill(0, EXTENSION_OFFSET + 24, EXTENSION_OFFSET + 40);
      const poor = await openRafs(new MemorySource(bare), placesOf(blobs));
      const lines = await shown(near);
      for (const open of [far, poor]) {
        assert.deepEqual(await shown(open), lines, name);
        assert.deepEqual(open.problems, [], name);
        assert.ok(open.index.chunks.every((chunk) => open.check(chunk, new Uint8Array(3)) === false || chunk.digest !== undefined), 'every chunk has a digest');
      }
    }
  });

  it('are opened and read with few requests', async () => {
    const { bootstrap, metas, blobs } = await madeRafs({}, [archive(entries(file('first', noise(300_000)), file('small', noise(20_000, 3)), file('last', noise(300_000, 5))))]);
    const [[id, blob]] = [...blobs] as [[string, Uint8Array]];
    const source = new CountingSource(new MemorySource(blob));
    const open = await openRafs(new MemorySource(bootstrap), { metas, data: () => source, tables: () => source });
    assert.equal(source.requests, 0, id);
    const node = nodeAt(open.index.root, 'small') as RegularNode;
    const bytes = await new LayerReader({ format: 'nydus', indexBytes: 0, ...open }).readFile(node, 100, 50);
    assert.deepEqual(Buffer.from(bytes), Buffer.from(noise(20_000, 3).subarray(100, 150)));
    assert.deepEqual([source.requests, source.bytes < 40_000], [1, true]);
  });

  it('say what to fetch first', async () => {
    const { bootstrap, metas, blobs } = await madeRafs({ prefetch: ['etc/words', 'etc/hosts'] });
    const { index, facts } = await openRafs(new MemorySource(bootstrap), placesOf(blobs, metas));
    assert.equal(facts['prefetchEntries'], 2);
    const wanted = ['etc/words', 'etc/hosts'].flatMap((path) => (nodeAt(index.root, path) as RegularNode).extents.map(({ chunk }) => chunk));
    for (const { blob, offset, length } of wanted) assert.ok(index.prefetch?.some((range) => range.blob === blob && range.offset <= offset && range.end >= offset + length));
    assert.ok((index.prefetch ?? []).reduce((sum, range) => sum + range.end - range.offset, 0) <= wanted.reduce((sum, { length }) => sum + length, 0));
  });

  it('do not give wrong bytes: chunks are held against digests of either kind', async () => {
    for (const digester of ['blake3', 'sha256'] as const) {
      const { bootstrap, metas, blobs } = await madeRafs({ digester, compressor: 'none' });
      for (const [id, blob] of blobs) {
        const damaged = new Map([...blobs, [id, Uint8Array.from(blob, (byte, at) => (at === 3 ? byte ^ 1 : byte))]]);
        await assert.rejects(shown(await openRafs(new MemorySource(bootstrap), placesOf(damaged, metas))), fails('DIGEST_MISMATCH', /chunk of \d+ bytes/));
      }
    }
  });

  it('say what vouches for a chunk, whatever kind of digest it is', async () => {
    for (const digester of ['blake3', 'sha256'] as const) {
      const { bootstrap, metas, blobs } = await madeRafs({ digester });
      const { index: { chunks }, strongDigest } = await openRafs(new MemorySource(bootstrap), placesOf(blobs, metas));
      const vouched = chunks.map((chunk) => chunk.digest ?? strongDigest(chunk));
      assert.ok(chunks.length > 1 && vouched.every((text) => new RegExp(`^${digester}:[0-9a-f]{64}$`).test(text ?? '')), String(vouched[0]));
      assert.equal(new Set(vouched).size, new Set(chunks.map((chunk) => Buffer.from((chunk as RafsChunk).digestBytes as Uint8Array).toString('hex'))).size);
    }
  });

  it('do not take tables that are not those of the bootstrap', async () => {
    const { bootstrap, metas, blobs } = await madeRafs();
    const [[id, blob]] = [...blobs] as [[string, Uint8Array]];
    const meta = metas.get(id) as Uint8Array;
    // A bundled table that is not right is as good as none.
    const other = new Map([[id, meta.subarray(0, -512)]]);
    const open = await openRafs(new MemorySource(bootstrap), placesOf(blobs, other));
    assert.deepEqual(open.problems.length, 1);
    assert.match(open.problems[0] as string, /context table of blob 0 .* in the bootstrap layer/);
    // Nor is a header with no table, and nobody is to blame for that.
    const bare = await openRafs(new MemorySource(bootstrap), placesOf(blobs, new Map([[id, meta.subarray(-4096)]])));
    assert.deepEqual([bare.problems, bare.index.chunks.length], [[], open.index.chunks.length]);
    const entry = Buffer.from(bootstrap).readUInt32LE(EXTENSION_OFFSET + 8);
    const contextOffset = Number(Buffer.from(bootstrap).readBigUInt64LE(entry + 112));
    for (const [what, at] of [['table', contextOffset + 5], ['header', contextOffset + Number(Buffer.from(bootstrap).readBigUInt64LE(entry + 120)) + 14], ['TOC', blob.length - 600]] as const) {
      const damaged = new Map([...blobs, [id, Uint8Array.from(blob, (byte, i) => (i === at ? byte ^ 1 : byte))]]);
      await assert.rejects(openRafs(new MemorySource(bootstrap), placesOf(damaged)).then(shown), (error) => error instanceof LazypullError && ['CORRUPT', 'DIGEST_MISMATCH'].includes(error.code), what);
    }
    assert.equal(BLOB_ENTRY_SIZE, 256);
  });

  it('can be read in parts when a blob is not there', async () => {
    const { bootstrap, blobs } = await madeRafs();
    const [first] = blobs.keys();
    const open = await openRafs(new MemorySource(bootstrap), placesOf(new Map([...blobs].filter(([id]) => id !== first))));
    assert.equal(open.problems.length, 1);
    const reader = new LayerReader({ format: 'nydus', indexBytes: 0, ...open });
    const read = (path: string): Promise<Uint8Array> => reader.readFile(nodeAt(open.index.root, path) as RegularNode, 0, 5, { path });
    assert.equal(Buffer.from(await read('etc/words')).toString(), 'words');
    await assert.rejects(read('etc/hosts'), fails('CORRUPT', /outside the 0 bytes/));
  });
});

describe('a blob by itself', () => {
  it('is the layer that it was made of, whiteouts included', async () => {
    const { blobs } = await madeRafs();
    const [, upper] = [...blobs.values()];
    const layer = strangers(upper as Uint8Array, { [ANNOTATION.blob]: 'true' }, BLOB_MEDIA_TYPE);
    assert.ok(await nydus.detect(layer));
    const open = await openNydus(layer);
    assert.equal(open.describes, undefined);
    assert.deepEqual([...open.index.root.children.keys()], ['.wh.noise', 'etc', 'var']);
    const read = (path: string): Promise<Uint8Array> => new LayerReader(open).readFile(nodeAt(open.index.root, path) as RegularNode, 0, 6);
    assert.equal(Buffer.from(await read('etc/words')).toString(), 'words ');
    // It shares this one's content with the layer below.
    await assert.rejects(read('etc/again'), fails('NOT_FOUND', /not known which image/));
  });

  it('that is plain cannot be read, and that is said', async () => {
    await assert.rejects(openNydus(strangers(noise(3000), {}, BLOB_MEDIA_TYPE)), fails('NOT_FOUND', /no bootstrap/));
    await assert.rejects(openNydus(strangers(new Uint8Array(0), {}, BLOB_MEDIA_TYPE)), fails('NOT_FOUND', /no bootstrap/));
  });
});

describe('a bootstrap layer', () => {
  const layerOf = (bytes: Uint8Array, digest = digestOf(bytes)): StoredLayer => ({
    descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: bytes.length, annotations: { [ANNOTATION.bootstrap]: 'true' } },
    source: new MemorySource(bytes),
    image: lonelyImage(),
  });

  it('is held against its digest', async () => {
    const { bootstrap } = await madeRafs();
    const bytes = bootstrapLayer({ 'image/image.boot': bootstrap });
    await assert.rejects(openNydus(layerOf(bytes, digestOf(bootstrap))), fails('DIGEST_MISMATCH', /bootstrap layer sha256:/));
    assert.equal(digestHex(digestOf(bytes)).length, 64);
  });

  it('needs a bootstrap in it', async () => {
    await assert.rejects(openNydus(layerOf(bootstrapLayer({ 'image/other': noise(10) }))), fails('CORRUPT', /no image\/image\.boot/));
    await assert.rejects(openNydus(layerOf(bootstrapLayer({ 'image/image.boot': noise(10_000) }))), fails('CORRUPT', /./));
    await assert.rejects(openNydus(layerOf(bootstrapLayer({ 'image/image.boot': new Uint8Array(0) }))), fails('CORRUPT', /bootstrap of 0 bytes/));
    await assert.rejects(openNydus(layerOf(Buffer.from('no gzip at all'))), fails('CORRUPT', /./));
  });

  it('may be older than its path: the names of other layers claim nothing', async () => {
    assert.equal(await nydus.detect({ ...layerOf(noise(10)), descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digestOf(), size: 0 } }), false);
    const { bootstrap } = await madeRafs({}, [archive(entries(file('empty')))]);
    const open = await openNydus(layerOf(bootstrapLayer({ 'image.boot': bootstrap })));
    assert.deepEqual([...open.index.root.children.keys()], ['empty']);
  });
});
