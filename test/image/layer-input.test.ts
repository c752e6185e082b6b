import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { estargz } from '../../formats/estargz/index.ts';
import { nydus, nydusZran } from '../../formats/nydus/index.ts';
import { soci } from '../../formats/soci/index.ts';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { choose, type Format, type LayerInput, type RewritingFormat } from '../../src/core/format.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { convertImage } from '../../src/image/convert.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { noise } from '../support/noise.ts';
import { gzipLayer, putImage, tarOf } from './fixture.ts';

/** So large that there will be a thread that hashes, and then something small. */
const HEAD = tarOf([{ path: 'noise', content: noise(9_000_000) }]).subarray(0, -1024);
const TAIL = tarOf([{ path: 'end', content: 'end' }]);
const TAR = Buffer.concat([HEAD, TAIL]);

/** The tar in two members, of which one has a wrong CRC. */
function layerWith(bad: 'first' | 'last' | 'none'): { readonly packed: Buffer; readonly trailer: number } {
  const members = [gzipSync(HEAD, { level: 0 }), gzipSync(TAIL)] as const;
  const wrong = bad === 'first' ? members[0] : members[1];
  if (bad !== 'none') wrong.writeUInt32LE((wrong.readUInt32LE(wrong.length - 8) ^ 1) >>> 0, wrong.length - 8);
  const packed = Buffer.concat(members);
  return { packed, trailer: (bad === 'first' ? members[0].length : packed.length) - 8 };
}

/** A store, and what was stored there without its digest being known before: what was made, that is. */
function noting(): { readonly store: ImageStore; readonly made: Descriptor[] } {
  const made: Descriptor[] = [];
  const store = openMemory();
  const ingest = store.ingest.bind(store);
  store.ingest = async (...args) => {
    const descriptor = await ingest(...args);
    made.push(descriptor);
    return descriptor;
  };
  return { store, made };
}

test('a wrong CRC: the same error for every format and with any number of threads, and nothing is made of the layer', async () => {
  for (const bad of ['first', 'last'] as const) {
    const { packed, trailer } = layerWith(bad);
    const source = openMemory();
    await putImage(source, { layers: [{ bytes: packed, diffId: digestOf(TAR), mediaType: OCI.layerGzip }] }, 'in');
    for (const format of [estargz, nydus, nydusZran, soci] as Format[]) {
      for (const jobs of [1, 2]) {
        const target = noting();
        const work = convertImage({ store: source, reference: 'in' }, { store: target.store, reference: 'out' }, choose(format, { ...(format === soci && { minLayerSize: 0 }) }), { jobs });
        const named = `layer ${digestOf(packed)}: content does not match the CRC-32 of its gzip trailer (at offset ${trailer})`;
        await assert.rejects(work, { code: 'CORRUPT', message: named, offset: trailer }, `${format.name}, ${bad}, ${jobs}`);
        assert.deepEqual(target.made, [], `${format.name}, ${bad}, ${jobs}`);
        await assert.rejects(target.store.resolve('out'), { code: 'NOT_FOUND' });
      }
    }
  }
});

/** Formats that read the tar and make nothing of it: one whose layers are made side by side, one in order. */
function reading(inOrder: boolean, read: (input: LayerInput) => Promise<void>): RewritingFormat {
  const convert: RewritingFormat['convert'] = async (input) => {
    await read(input);
    throw new LazypullError('UNSUPPORTED', 'read to its end');
  };
  return { ...estargz, name: 'reading', inOrder, convert } as RewritingFormat;
}

test('the end of the tar is told when all of it is known to be right', async () => {
  const cases = [
    ['none', digestOf(TAR), 'UNSUPPORTED', /read to its end/],
    ['none', digestOf(HEAD), 'DIGEST_MISMATCH', /diffID/],
    ['last', digestOf(TAR), 'CORRUPT', /CRC-32/],
    ['last', digestOf(HEAD), 'CORRUPT', /CRC-32/],
  ] as const;
  for (const [bad, diffId, code, text] of cases) {
    const source = openMemory();
    await putImage(source, { layers: [{ bytes: layerWith(bad).packed, diffId, mediaType: OCI.layerGzip }] }, 'in');
    for (const inOrder of [false, true]) {
      const format = reading(inOrder, async (input) => {
        for await (const _ of input.tar());
      });
      await assert.rejects(convertImage({ store: source, reference: 'in' }, { store: openMemory(), reference: 'out' }, choose(format), { jobs: 2 }), (error) => error instanceof LazypullError && error.code === code && text.test(error.message));
    }
  }
});

test('a reader that stumbles over content with a wrong CRC: the CRC is what is told', async () => {
  const content = gzipSync('no tar, but long enough to be one: '.repeat(100));
  content.writeUInt32LE(1, content.length - 8);
  for (const format of [estargz, nydus, nydusZran] as Format[]) {
    for (const bytes of [content, Buffer.concat([content, gzipSync(TAR)])]) {
      const source = openMemory();
      await putImage(source, { layers: [{ bytes, diffId: digestOf(TAR), mediaType: OCI.layerGzip }] }, 'in');
      const work = convertImage({ store: source, reference: 'in' }, { store: openMemory(), reference: 'out' }, choose(format), { jobs: 2 });
      await assert.rejects(work, (error) => error instanceof LazypullError && /CRC-32/.test(error.message), format.name);
    }
  }
});

test('layers above and below are none the worse for one that is read by threads', async () => {
  const source = openMemory();
  const middle = { bytes: layerWith('none').packed, diffId: digestOf(TAR), mediaType: OCI.layerGzip };
  await putImage(source, { layers: [gzipLayer([{ path: 'a', content: 'a' }]), middle, gzipLayer([{ path: 'b', content: 'b' }])] }, 'in');
  const digests = await Promise.all([1, 2].map(async (jobs) => {
    const report = await convertImage({ store: source, reference: 'in' }, { store: openMemory(), reference: 'out' }, choose(nydus), { jobs });
    return report.digest;
  }));
  assert.equal(digests[0], digests[1]);
});
