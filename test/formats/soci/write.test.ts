import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constants, crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { concat } from '../../../src/core/bytes.ts';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import type { DescribedLayer, LayerFollower, SkippedLayer } from '../../../src/core/format.ts';
import { followSoci } from '../../../formats/soci/write.ts';
import type { SociLayer, SociOptions } from '../../../formats/soci/layout.ts';
import { resolveOptions } from '../../../formats/soci/options.ts';
import { DOCKER, OCI } from '../../../src/oci/media-types.ts';
import { openMemory } from '../../../src/oci/memory.ts';
import { encodeTarHeader, paddingOf } from '../../../src/tar/write.ts';
import { noise } from '../../codec/samples.ts';
import { archive, entries, rawEntry, rawHeader } from '../../support/tar-blocks.ts';
import { file } from '../../support/tar-corpus.ts';
import { followed, indexed } from './made-by-writer.ts';

const tar = archive(entries(file('a', noise(3000)), file('b', noise(70_000))));
const store = openMemory();

function begin(mediaType: string, options: SociOptions = {}, size?: number): LayerFollower | SkippedLayer | 'repack' {
  return followSoci({ mediaType, ...(size !== undefined && { size }) }, { ingest: (type, produce) => store.ingest(type, produce) }, resolveOptions(options));
}

function follower(mediaType: string, options: SociOptions = { minLayerSize: 0 }): LayerFollower {
  const answer = begin(mediaType, options);
  if (answer === 'repack' || 'skipped' in answer) assert.fail(JSON.stringify(answer));
  return answer;
}

const reasonOf = (answer: ReturnType<typeof begin>): string => (answer === 'repack' ? answer : 'skipped' in answer ? answer.skipped : 'followed');
const finishing = (size: number, mediaType: string = OCI.layer): { descriptor: { mediaType: string; digest: Digest; size: number }; compression: 'none' } =>
  ({ descriptor: { mediaType, digest: digestOf(), size }, compression: 'none' });

describe('which layers are followed', () => {
  it('gzip and plain tar', async () => {
    for (const type of [OCI.layerGzip, DOCKER.layerGzip, OCI.layer, DOCKER.layer]) await follower(type).abandon();
  });

  it('no others, each with its reason', () => {
    assert.match(reasonOf(begin(OCI.layerZstd)), /zstd.*--transcode-zstd/);
    assert.match(reasonOf(begin('application/vnd.oci.image.layer.v1.tar+gzip+encrypted')), /encrypted/);
    assert.match(reasonOf(begin('application/vnd.in-toto+json')), /application\/vnd\.in-toto\+json cannot be indexed/);
    assert.match(reasonOf(begin('application/vnd.oci.image.layer.nondistributable.v1.tar')), /cannot be indexed/);
  });

  it('zstd to be repacked on demand', () => {
    assert.equal(begin(OCI.layerZstd, { transcodeZstd: true }), 'repack');
    assert.equal(begin(DOCKER.layerZstd, { transcodeZstd: true }), 'repack');
    assert.match(reasonOf(begin(OCI.layerZstd, { transcodeZstd: true }, 5)), /worth indexing/);
  });

  it('from 10 MiB on unless told otherwise', async () => {
    assert.match(reasonOf(begin(OCI.layerGzip, {}, 10_485_759)), /^it has 10485759 bytes, less than the 10485760 that a layer worth indexing has$/);
    const exact = begin(OCI.layerGzip, {}, 10_485_760);
    assert.equal(reasonOf(exact), 'followed');
    if (exact !== 'repack' && !('skipped' in exact)) await exact.abandon();
  });
});

describe('what comes of it', () => {
  it('a stored zTOC, told without the windows', async () => {
    const packed = gzipSync(tar);
    const { ztoc, bytes } = await indexed(packed, { spanSize: 20_000 });
    assert.ok(ztoc.spanDigests.length > 1);
    const one = follower(OCI.layer, { minLayerSize: 0, spanSize: 20_000 });
    one.packed(tar);
    await one.tar(tar);
    const described = (await one.finish(finishing(tar.length))) as DescribedLayer;
    const { descriptor, ztoc: plain } = described.details as SociLayer;
    assert.equal(descriptor.mediaType, 'application/octet-stream');
    assert.deepEqual(described.blob, descriptor);
    assert.deepEqual([described.entries, described.chunks, described.warnings], [2, 4, []]);
    assert.equal(plain.records.length, 2);
    assert.ok(bytes.length > 2 * 32_768);
  });

  it('nothing for a small layer whose size was not known', async () => {
    const one = follower(OCI.layer, { minLayerSize: tar.length + 1 });
    one.packed(tar);
    await one.tar(tar);
    assert.match(((await one.finish(finishing(tar.length))) as SkippedLayer).skipped, /worth indexing/);
  });

  it('nothing for a layer that is not what its media type says', async () => {
    const plain = follower(OCI.layerGzip);
    plain.packed(tar);
    await plain.tar(tar);
    assert.deepEqual(await plain.finish(finishing(tar.length)), { skipped: 'it is a plain tar, and its media type says gzip' });
    const packed = follower(OCI.layer);
    await packed.tar(tar);
    assert.deepEqual(await packed.finish({ ...finishing(3), compression: 'gzip' }), { skipped: 'it is gzip, and its media type says a plain tar' });
  });

  it('nothing for an empty layer, and for a tar that ends with its last file and span', async () => {
    assert.deepEqual(await follower(OCI.layer).finish(finishing(0)), { skipped: 'it is empty' });
    const endless = entries(file('a', new Uint8Array(1536)));
    assert.match(JSON.stringify(await followed(endless, { spanSize: 1024 })), /its tar has no end/);
    // One byte less and nothing is beyond the last span.
    await indexed(entries(file('a', new Uint8Array(1535))), { spanSize: 1024 });
    await indexed(endless, { spanSize: 1000 });
  });

  it('nothing where a span would take more than readers do', async () => {
    assert.match(JSON.stringify(await followed(zerosInOneBlock(257 << 20), {}, () => 1 << 18)), /^{"skipped":"258 MiB of it can only be inflated as one, more than the 256 MiB that readers take"}$/);
  });

  it('tells of what our own reader will refuse', async () => {
    for (const [name, bytes, text] of [
      ['a name', archive(rawEntry({ name: 'ok' }, 'x'), rawEntry({ name: '../x' }, 'y')), /^lazypull itself does not read the layer, with this index or without: tar entry refused: name climbs above the root of the layer \(\.\.\/x/],
      ['a link', archive(entries(file('d/a', 'x')), rawHeader({ name: 'b', typeflag: '1', linkName: 'd' })), /hard link/],
    ] as const) {
      const made = await followed(bytes, { spanSize: 1 << 20 });
      if ('skipped' in made) assert.match(made.skipped, /hard link/, name);
      else assert.match(made.warnings?.join() ?? '', text, name);
    }
    assert.deepEqual((await indexed(archive(rawEntry({ name: 'd/../x' }, 'y')), { spanSize: 1 << 20 })).warnings, []);
  });

  it('a warning for spans that are large without being asked for', async () => {
    const { warnings } = await indexed(zerosInOneBlock(65 << 20), { spanSize: 1 << 20 }, () => 1 << 18);
    assert.deepEqual(warnings, ['its largest span has 66 MiB: all of it is inflated for any byte in it']);
    assert.deepEqual((await indexed(zerosInOneBlock(63 << 20), { spanSize: 1 << 20 }, () => 1 << 18)).warnings, []);
  });

  it('an error for a broken tar, after all has gone by', async () => {
    const one = follower(OCI.layer);
    const broken = Uint8Array.from(tar, (byte, i) => (i === 3 ? byte ^ 1 : byte));
    for (let at = 0; at < broken.length; at += 4096) {
      one.packed(broken.subarray(at, at + 4096));
      await one.tar(broken.subarray(at, at + 4096));
    }
    await assert.rejects(one.finish(finishing(tar.length)), { code: 'CORRUPT', message: /checksum/ });
  });

  it('an error for stored bytes that were not told', async () => {
    const one = follower(OCI.layer);
    one.packed(tar.subarray(1));
    await one.tar(tar);
    await assert.rejects(one.finish(finishing(tar.length)), { code: 'INTERNAL' });
  });

  it('an error where the store has one', async () => {
    const one = followSoci({ mediaType: OCI.layer }, { ingest: () => Promise.reject(new Error('full')) }, resolveOptions({ minLayerSize: 0 }));
    if (one === 'repack' || 'skipped' in one) return assert.fail();
    one.packed(tar);
    await one.tar(tar);
    await assert.rejects(one.finish(finishing(tar.length)), { message: 'full' });
  });

  it('abandons at any time, and twice', async () => {
    const one = follower(OCI.layerGzip);
    const writing = one.tar(tar.subarray(0, 700));
    await one.abandon();
    await writing;
    await one.abandon();
  });
});

describe('a tar that runs ahead of the stored bytes, as with a format that packs it anew', () => {
  it('gives the same zTOC', async () => {
    const pieces = [tar.subarray(0, 5000), tar.subarray(5000, 60_000), tar.subarray(60_000)];
    const members = pieces.map((piece) => gzipSync(piece));
    const packed = concat(members);
    const { bytes } = await indexed(packed, { spanSize: 1 << 20 });
    const one = follower(OCI.layerGzip, { minLayerSize: 0, spanSize: 1 << 20 });
    await one.tar(tar);
    let at = 0;
    let out = 0;
    for (const [i, member] of members.entries()) {
      one.point({ bit: (at + 10) * 8, out, member: true, window: () => tar.subarray(Math.max(0, out - 32_768), out) });
      one.packed(member.subarray(0, 7));
      one.packed(member.subarray(7));
      at += member.length;
      out += (pieces[i] as Uint8Array).length;
    }
    const described = (await one.finish({ descriptor: { mediaType: OCI.layerGzip, digest: digestOf(packed), size: packed.length }, compression: 'gzip' })) as DescribedLayer;
    assert.equal(described.blob.digest, digestOf(bytes));
  });
});

/** A layer with one file of zeros, all of them in one deflate block. */
function zerosInOneBlock(size: number): Uint8Array {
  const header = encodeTarHeader({ path: 'zeros', type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, size });
  const zeros = size + paddingOf(size) + 1024;
  // Fixed codes: a literal 0 has 8 bits, the length 258 with distance 1 has 13, the end 7.
  const matches = Math.floor((zeros - 1) / 258);
  const literals = zeros - matches * 258;
  const block = new Uint8Array(Math.ceil((3 + literals * 8 + matches * 13 + 7) / 8));
  let at = 0;
  const put = (bits: string): void => {
    for (const bit of bits) {
      if (bit === '1') block[at >> 3] = (block[at >> 3] as number) | (1 << (at & 7));
      at += 1;
    }
  };
  put('110');
  for (let i = 0; i < literals; i += 1) put('00110000');
  for (let i = 0; i < matches; i += 1) put('1100010100000');
  const trailer = Buffer.alloc(8);
  const part = new Uint8Array(1 << 20);
  let sum = crc32(header);
  for (let left = zeros; left > 0; left -= part.length) sum = crc32(part.subarray(0, Math.min(left, part.length)), sum);
  trailer.writeUInt32LE(sum);
  trailer.writeUInt32LE(header.length + zeros, 4);
  return concat([gzipSync('').subarray(0, 10), deflateRawSync(header, { finishFlush: constants.Z_SYNC_FLUSH }), block, trailer]);
}
