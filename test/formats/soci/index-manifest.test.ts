import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf, type Digest } from '../../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { encodeDocument } from '../../../src/oci/documents.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import { encodeGoManifest, goDifference } from '../../../formats/soci/go-json.ts';
import { CONFIG, decodeSociIndex, encodeSociIndex, joinLayers } from '../../../formats/soci/index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from '../../../formats/soci/layout.ts';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');
const refuses = (code: ErrorCode, message: RegExp) => (error: unknown) => error instanceof LazypullError && error.code === code && message.test(error.message);
const some = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

// Format notes §7.4: made by the soci library.
const LAYER = 'sha256:f208f493de2291ac908425b5aa592044fe2157cf35696a8883bc9a51b2ca12c7';
const ZTOC: Descriptor = {
  mediaType: ZTOC_MEDIA_TYPE,
  digest: 'sha256:486d45298cf7d95878796cd7a48c910b6d27c3e3c7733a9df601b50b405860c6',
  size: 33192,
  annotations: { [ANNOTATION.spanSize]: '262144', [ANNOTATION.layerMediaType]: OCI.layerGzip, [ANNOTATION.layerDigest]: LAYER },
};
const V2 = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.amazon.soci.index.v2+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/octet-stream","digest":"sha256:486d45298cf7d95878796cd7a48c910b6d27c3e3c7733a9df601b50b405860c6","size":33192,"annotations":{"com.amazon.soci.image-layer-digest":"sha256:f208f493de2291ac908425b5aa592044fe2157cf35696a8883bc9a51b2ca12c7","com.amazon.soci.image-layer-mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","com.amazon.soci.span-size":"262144"}}],"annotations":{"com.amazon.soci.build-tool-identifier":"AWS SOCI CLI v0.2"}}';
const SUBJECT: Descriptor = { mediaType: OCI.manifest, digest: 'sha256:2d14bcdb70d5f3684a6bc50297c4bd9fe32b863e373d7f640c294b5068ae56b5', size: 400 };

test('the v2 index of the format notes comes out byte for byte', () => {
  const bytes = encodeSociIndex({ layers: [ZTOC] });
  assert.equal(text(bytes), V2);
  assert.deepEqual([bytes.length, digestOf(bytes)], [709, 'sha256:d5b3988e239f7726d0d4cbad0549f308474b5bcc06ac3c44a1371d0a65328bf0']);
});

test('the v1 index of the format notes comes out byte for byte, whatever else its subject says', () => {
  const bytes = encodeSociIndex({ layers: [ZTOC], subject: { ...SUBJECT, platform: { os: 'linux', architecture: 'amd64' }, annotations: { a: 'b' } } });
  assert.deepEqual([bytes.length, digestOf(bytes)], [872, 'sha256:b2664e36801ad36f82c7c73255ae0618f15142f84b11836e02905c2fa72f030f']);
});

test('an index is read for what it is', () => {
  const list: Descriptor = { mediaType: PREFETCH_MEDIA_TYPE, digest: some('b'), size: 9, annotations: { [ANNOTATION.layerDigest]: LAYER } };
  const other: Descriptor = { mediaType: 'text/plain', digest: some('c'), size: 1 };
  assert.deepEqual(decodeSociIndex(encodeSociIndex({ layers: [ZTOC, other, list] }), 'index'), { version: 2, ztocs: [ZTOC], prefetch: [list] });
  assert.deepEqual(decodeSociIndex(encodeSociIndex({ layers: [ZTOC], subject: SUBJECT }), 'index'), { version: 1, subject: SUBJECT, ztocs: [ZTOC], prefetch: [] });
});

test('zTOCs are joined to layers by annotation; of two about one layer the last counts', () => {
  const second = { ...ZTOC, digest: some('d') };
  const { annotations: _none, ...unnamed } = ZTOC;
  const index = decodeSociIndex(encodeSociIndex({ layers: [ZTOC, unnamed, second] }), 'index');
  assert.deepEqual([...joinLayers(index)], [[LAYER, second]]);
});

test('what is no SOCI index is refused with what was found', () => {
  const manifest = (mediaType: string): Uint8Array => encodeDocument({ schemaVersion: 2, config: { mediaType, ...CONFIG }, layers: [] });
  assert.throws(() => decodeSociIndex(manifest('application/vnd.amazon.soci.index.v3+json'), 'it'), refuses('UNSUPPORTED', /^it is a SOCI index of an unknown version: .*index\.v3\+json$/));
  assert.throws(() => decodeSociIndex(manifest(OCI.config), 'it'), refuses('CORRUPT', /^it is not a SOCI index: .*image\.config/));
  assert.throws(() => decodeSociIndex(manifest('\u001b[31m'), 'it'), refuses('CORRUPT', /\\x1b\[31m$/));
  assert.throws(() => decodeSociIndex(encodeDocument({ schemaVersion: 2, manifests: [] }), 'it'), refuses('CORRUPT', /config/));
  assert.throws(() => decodeSociIndex(Buffer.from('{'), 'it'), refuses('CORRUPT', /not JSON/));
});

// Both made with Go 1.26: json.Unmarshal into image-spec 1.1.1's Manifest, the surviving fields into another one, json.Marshal.
const STRANGE = {
  schemaVersion: 2, mediaType: OCI.manifest, artifactType: 'dropped', unknown: 1,
  config: {
    mediaType: 'a<b>&c', digest: some('a'), size: 9007199254740991, data: 'e30=', artifactType: 'type', annotations: {}, urls: [], more: true,
    platform: { os: 'linux', architecture: 'arm', variant: 'v7', 'os.version': '1', 'os.features': ['x', 'é'] },
  },
  layers: [{
    mediaType: '', digest: some('b'), size: 0, urls: ['https://x/?a=1&b=2'],
    annotations: { '\ue000': 'late', '\u{1f600}': 'last', z: '\u0000\b\t\n\v\f\r\u001f"\\/\u007f\u0080é\u2028\u2029\ufffd\u{1f600}', A: '', 10: 'ten', 9: 'nine' },
  }],
  subject: { mediaType: 'm', digest: some('c'), size: 1, platform: { os: '', architecture: '' } },
  annotations: { b: '1', a: '2' },
};
const BY_GO = String.raw`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a\u003cb\u003e\u0026c","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":9007199254740991,"data":"e30=","platform":{"architecture":"arm","os":"linux","os.version":"1","os.features":["x","é"],"variant":"v7"},"artifactType":"type"},"layers":[{"mediaType":"","digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":0,"urls":["https://x/?a=1\u0026b=2"],"annotations":{"10":"ten","9":"nine","A":"","z":"\u0000\b\t\n\u000b\f\r\u001f\"\\/DEL\u2028\u2029RAW","EARLY":"late","😀":"last"}}],"subject":{"mediaType":"m","digest":"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","size":1,"platform":{"architecture":"","os":""}},"annotations":{"a":"2","b":"1"}}`
  .replace('DEL', '\u007f\u0080é').replace('RAW', '\ufffd\u{1f600}').replace('EARLY', '\ue000');

test('strings, key order and what is left out are as Go has them', () => {
  const { config, layers, subject, annotations } = STRANGE as unknown as Parameters<typeof encodeGoManifest>[0];
  assert.equal(text(encodeGoManifest({ config, layers, subject, annotations })), BY_GO);
  assert.equal(goDifference(Buffer.from(BY_GO), 'it'), undefined);
});

test('a byte that is not UTF-8 is written as Go writes it', () => {
  // Go: json.Marshal("a\x80\xffb") is "a\ufffd\ufffdb", escaped.
  const { annotations = {} } = ZTOC;
  const bytes = encodeSociIndex({ layers: [{ ...ZTOC, annotations: { ...annotations, name: 'a\udc80\udcffb' } }] });
  assert.ok(text(bytes).includes(String.raw`"name":"a\ufffd\ufffdb"`));
});

test('what Go would write otherwise is found where it begins', () => {
  const at = (bytes: Uint8Array | string): number | undefined => goDifference(Buffer.from(bytes as string), 'it');
  const swap = (from: string, to: string): [string, number] => [V2.replace(from, to), V2.indexOf(from)];
  assert.equal(at(V2), undefined);
  assert.equal(at(`${V2}\n`), V2.length);
  assert.equal(at(` ${V2}`), 0);
  const [artifact] = swap('"config"', `"artifactType":"${INDEX_TYPE.v2}","config"`);
  assert.equal(at(artifact), V2.indexOf('config'));
  const [spaced, colon] = swap(':2,"mediaType"', ': 2,"mediaType"');
  assert.equal(at(spaced), colon + 1);
  const [ampersand, where] = swap('AWS SOCI', 'AWS&SOCI');
  assert.equal(at(ampersand), where + 3);
  assert.equal(at(V2.replace('AWS SOCI', String.raw`AWS\u0026SOCI`)), undefined);
  assert.ok(at(V2.replace('AWS SOCI', String.raw`AWS\u0020SOCI`)) !== undefined);
  assert.ok(at(V2.replace('"mediaType":"application/vnd.oci.image.manifest.v1+json",', '')) !== undefined, 'a manifest without a media type is given one');
  // Go's nil list is null and stays so.
  const none = V2.replace(/"layers":\[.*\],/, '"layers":null,');
  assert.equal(at(none), undefined);
  assert.equal(at(none.replace('null', '[]')), undefined);
  // A key that JavaScript treats apart is a key like others.
  assert.equal(at(V2.replace('"annotations":{"com.amazon.soci.build', '"annotations":{"__proto__":"x","com.amazon.soci.build')), undefined);
  assert.throws(() => at('{}'), refuses('CORRUPT', /it is malformed/));
});

const hex = fc.array(fc.constantFrom(...'0123456789abcdef'), { minLength: 64, maxLength: 64 }).map((digits): Digest => `sha256:${digits.join('')}`);
const anyText = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom('<', '&', '\u2028', '\u0000', '\n', '"', '\\', 'é', '\u{1f600}', '\ufffd') }));
const anyDescriptor = fc.record(
  { mediaType: fc.constantFrom(ZTOC_MEDIA_TYPE, PREFETCH_MEDIA_TYPE), digest: hex, size: fc.maxSafeNat(), annotations: fc.dictionary(anyText.filter((key) => key !== '__proto__'), anyText, { minKeys: 1, noNullPrototype: true }) },
  { requiredKeys: ['mediaType', 'digest', 'size'], noNullPrototype: true },
);

test('what is encoded is canonical and is read back', () => {
  fc.assert(fc.property(fc.array(anyDescriptor, { maxLength: 5 }), fc.boolean(), (layers, v1) => {
    const bytes = encodeSociIndex({ layers, ...(v1 && { subject: SUBJECT }) });
    assert.equal(goDifference(bytes, 'it'), undefined);
    assert.deepEqual(decodeSociIndex(bytes, 'it'), {
      version: v1 ? 1 : 2,
      ...(v1 && { subject: SUBJECT }),
      ztocs: layers.filter(({ mediaType }) => mediaType === ZTOC_MEDIA_TYPE),
      prefetch: layers.filter(({ mediaType }) => mediaType === PREFETCH_MEDIA_TYPE),
    });
  }));
});

test('mutated manifests end in a typed error or a result, and never pass for canonical when Go would change them', () => {
  const good = Buffer.from(encodeSociIndex({ layers: [ZTOC], subject: SUBJECT }));
  fc.assert(fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(3), (at, byte, cut) => {
    const bytes = Buffer.concat([good.subarray(0, at), Buffer.of(byte), good.subarray(at + cut)]);
    try {
      decodeSociIndex(bytes, 'it');
      const difference = goDifference(bytes, 'it');
      assert.ok(difference === undefined || difference <= bytes.length);
    } catch (error) {
      assert.ok(error instanceof LazypullError, String(error));
    }
  }), { numRuns: 2000 });
});
