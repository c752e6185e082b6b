import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '../../../src/core/digest.ts';
import { encodeZinfo, spanRanges } from '../../../formats/soci/zinfo.ts';
import { decodeZtoc, encodeZtoc } from '../../../formats/soci/ztoc.ts';
import { headerOffsets } from './header-offsets.ts';
import { indexed } from './made-by-writer.ts';

// The worked examples of the format notes: layers and zTOCs that the soci CLI's own code made.

const SMALL = Buffer.from(
  '1f8b08000000000000ff4b64a03d300002331313300d04e834101833189a981a99989b1b9880c5cd0c4d8c19140ce8e03686d2e292c422a095f4b06b10828c4cae8176c2281805a360148c8201000097824fc700080000', 'hex');
const LARGE = Buffer.from(
  '1f8b08000000000000ffd2d34fcaccd367a029300002735353300d04e834986d68626a64626e6e6002163733373461503065a003282d2e492c025ac93032811e38fe13691dff26f0f8373482d04626f0f83734478f7f7313634306054271021040548dff5202ead28767fc27e61464242ad09f641805340700000000ffff233eff27d1bcfc37333121befc3734303434655030a447e134e2cb7f3d7d8780c40a8fd4c494d422dac53f967847c4bf196a5a00c6bf9121b0fcaf18adff690e8c4c15829d3d3c7d22f52a124b4a8af44a8b538bf4b26dcbb88c8c15724b3273536d81b53314e81999728d9698c32dffe3ce650008e7c4101c0c00001f8b08000000000000ff6260a00e300002331313300d04e834101833189a981a99989b1b9880c5cd8c8dcc19140c18e8004a8b4b128b8056328c4c505159c5300a062f0008b051300a46c128a01500007178b86ae4070000',
  'hex');

describe('worked examples of the notes', () => {
  it('one checkpoint (§5.1)', async () => {
    assert.equal(digestOf(SMALL), 'sha256:f208f493de2291ac908425b5aa592044fe2157cf35696a8883bc9a51b2ca12c7');
    const { bytes, ztoc, warnings } = await indexed(SMALL, { spanSize: 262_144 });
    assert.equal(bytes.length, 33_192);
    assert.equal(digestOf(bytes), 'sha256:486d45298cf7d95878796cd7a48c910b6d27c3e3c7733a9df601b50b405860c6');
    assert.deepEqual(spanRanges(ztoc), [{ packedStart: 10, packedEnd: 87, tarStart: 0, tarEnd: 2048 }]);
    assert.deepEqual(ztoc.spanDigests, ['sha256:a85196237ba90a915d3267d3421872794569af22aad48f993c619169d9262c43']);
    assert.deepEqual(warnings, []);
    const [record] = ztoc.records;
    assert.deepEqual(record, {
      name: 'a', type: 'reg', offset: 512, size: 3, linkName: '', mode: 0o644, uid: 0, gid: 0, userName: '', groupName: '',
      modTime: '2023-11-14T22:13:20Z', major: 0, minor: 0, pax: new Map(),
    });
  });

  it('several checkpoints inside bytes, two members, pax, hard link, xattr (§5.2)', async () => {
    assert.equal(digestOf(LARGE), 'sha256:b72ff32a2cddab859df5204d1f94d98c83e7acfc9faa202ca5a1b267f0abe131');
    const { bytes, ztoc } = await indexed(LARGE, { spanSize: 512, upstreamCheckpoints: true });
    assert.equal(bytes.length, 165_280);
    assert.equal(digestOf(bytes), 'sha256:bafd0b897c873596e234c50d2958da275ebec2b80b5a7d08fd2f39a33e2840a9');
    const zinfo = encodeZinfo(ztoc.spans);
    assert.equal(zinfo.length, 163_937);
    assert.equal(Buffer.from(zinfo.subarray(0, 12)).toString('hex'), '050000000002000000000000');
    const heads = Array.from({ length: 5 }, (_, i) => Buffer.from(zinfo.subarray(12 + i * 32_785, 29 + i * 32_785)).toString('hex'));
    assert.deepEqual(heads, [
      '0a00000000000000000000000000000000', '6000000000000000bc0200000000000005', '7900000000000000dc0500000000000001',
      '04010000000000001c0c00000000000000', '3f01000000000000a00f00000000000006',
    ]);
    assert.deepEqual(spanRanges(ztoc).map(({ packedStart, packedEnd }) => [packedStart, packedEnd]), [[10, 96], [95, 121], [120, 260], [260, 319], [318, 338]]);
    assert.deepEqual(ztoc.spanDigests.map((digest) => digest.slice(7, 15)), ['c6f6a46d', '9eca9d32', 'dc9dc8be', 'f34ee5c0', '4c6cf592']);
    assert.deepEqual(headerOffsets(ztoc), [0, 512, 1536, 2048]);
    const text = (value: Uint8Array): string => Buffer.from(value).toString();
    assert.deepEqual(ztoc.records.map((r) => [r.name, r.type, r.offset, r.size, r.linkName, r.mode]), [
      ['./bin/', 'dir', 512, 0, '', 0o755],
      ['./bin/a', 'reg', 1024, 120, '', 0o4755],
      ['./bin/b', 'hardlink', 2048, 0, './bin/a', 0o644],
      ['./x', 'reg', 3584, 3, '', 0o644],
    ]);
    const last = ztoc.records[3];
    assert.equal(last?.modTime, '2023-11-14T22:13:20.25Z');
    assert.deepEqual([...(last?.pax ?? [])].map(([key, value]) => [key, text(value)]).sort(), [['SCHILY.xattr.user.k', 'v'], ['mtime', '1700000000.25']]);
    // The member begins a span by the rule already, so that giving each member one changes nothing.
    assert.deepEqual((await indexed(LARGE, { spanSize: 512 })).bytes, bytes);
  });

  it('plain tar (§5.3)', async () => {
    const tar = gunzipSync(SMALL);
    const { bytes, ztoc } = await indexed(tar, { spanSize: 1024 });
    assert.equal(bytes.length, 528);
    assert.equal(digestOf(bytes), 'sha256:179f65d0747020aadbc6751e7f911c4216e9e8129a3a7b59a9bb764713a04569');
    assert.equal(
      Buffer.from(encodeZinfo(ztoc.spans)).toString('hex'),
      '140000000000000000000a001c0018000c0004000a000000000800000000000000040000000000000000000002000000',
    );
    assert.deepEqual(ztoc.spanDigests.map((digest) => digest.slice(7, 19)), ['501521490b61', '5f70bf18a086']);
  });

  it('what is decoded encodes to the same bytes', async () => {
    for (const [layer, spanSize] of [[SMALL, 1], [LARGE, 512], [gunzipSync(LARGE), 700]] as const) {
      const { bytes } = await indexed(layer, { spanSize });
      assert.deepEqual(encodeZtoc(decodeZtoc(bytes)), bytes);
    }
  });
});
