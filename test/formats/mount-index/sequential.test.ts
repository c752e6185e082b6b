import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from '../../../src/core/digest.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import { CountingSource, MemorySource } from '../../../src/core/source.ts';
import type { OpenLayer, RegularNode } from '../../../src/core/types.ts';
import { zstdCompress } from '../../../src/codec/zstd.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { tarOf } from '../../image/fixture.ts';
import { noise } from '../../support/noise.ts';
import { indexed, layerOf } from './indexed.ts';

const TAR = tarOf([{ path: 'first', content: noise(9_000_000) }, { path: 'middle', content: Buffer.alloc(20_000_000, 'words and ') }, { path: 'last', content: noise(9_000_000, 2) }]);
/** More than is ever decoded as one. */
const PACKED = await zstdCompress(TAR, 1);
const { place, layers: [STORED] } = await indexed([layerOf(PACKED, TAR)]);

async function open(packed = PACKED): Promise<{ layer: OpenLayer; source: CountingSource; file: (name: string) => RegularNode }> {
  assert.ok(STORED);
  const source = new CountingSource(new MemorySource(packed));
  const layer = await mountIndex.open({ ...STORED, source });
  return { layer, source, file: (name) => layer.index.root.children.get(name) as RegularNode };
}

describe('mount index: a layer in one large zstd frame', () => {
  it('says that it can only be read from its start, and gives it so', async () => {
    const { layer } = await open();
    assert.equal(layer.facts?.['access'], 'sequential');
    assert.ok(layer.tiles && layer.sequential);
    const parts: Buffer[] = [];
    for await (const bytes of layer.sequential()) parts.push(Buffer.from(bytes));
    assert.deepEqual(parts.map(({ length }) => length), layer.index.chunks.map(({ size }) => size));
    assert.equal(digestOf(Buffer.concat(parts)), digestOf(TAR));
  });

  it('is read like any other, each byte of it fetched once', async () => {
    const { layer, source, file } = await open();
    const reader = new LayerReader(layer, { cacheBytes: 0 });
    assert.ok(Buffer.from(noise(9_000_000).subarray(5000, 6000)).equals(await reader.readFile(file('first'), 5000, 1000)));
    assert.ok(source.bytes < PACKED.length / 2, `${source.bytes} of ${PACKED.length}`);
    assert.ok(Buffer.from(noise(9_000_000, 2).subarray(-1000)).equals(await reader.readFile(file('last'), 8_999_000, 1000)));
    assert.equal(source.bytes, PACKED.length);
    assert.equal(Buffer.from(await reader.readFile(file('middle'), 10_000_000, 10)).toString(), 'words and ');
    assert.equal(source.bytes, PACKED.length);
  });

  it('is verified', async () => {
    assert.deepEqual((await verifyImage(place, [mountIndex])).problems, []);
  });

  it('gives no byte that is not proven, and goes on where a request had failed', async () => {
    const wrong = Buffer.from(PACKED);
    wrong[6_000_000] = (wrong[6_000_000] as number) ^ 1;
    const { layer, file } = await open(wrong);
    const reader = new LayerReader(layer);
    assert.equal((await reader.readFile(file('first'), 0, 10)).length, 10);
    for (let i = 0; i < 2; i += 1) await assert.rejects(reader.readFile(file('first'), 8_000_000, 10), (error) => error instanceof LazypullError && error.code === 'DIGEST_MISMATCH');
    assert.equal((await reader.readFile(file('first'), 3_000_000, 10)).length, 10);
    wrong.set(PACKED);
    assert.ok(Buffer.from(noise(9_000_000).subarray(8_000_000, 8_000_010)).equals(await reader.readFile(file('first'), 8_000_000, 10)));
  });

  it('stops when it is told to', async () => {
    const { layer } = await open();
    const stop = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of layer.sequential?.(stop.signal) ?? []) stop.abort();
    }, (error) => error instanceof LazypullError && error.code === 'CANCELLED');
  });
});
