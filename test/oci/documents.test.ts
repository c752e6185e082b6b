import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { describe as descriptorOf, encodeDocument, manifestMediaType, parseConfig, parseDescriptor, parseIndex, parseManifest } from '../../src/oci/documents.ts';
import { DOCKER, OCI } from '../../src/oci/media-types.ts';

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const config = { mediaType: OCI.config, digest: digestOf(), size: 0 };
const layer = { mediaType: OCI.layerGzip, digest: digestOf(Buffer.of(1)), size: 1 };

describe('documents', () => {
  it('keep what they do not know', () => {
    const manifest = { schemaVersion: 2, mediaType: OCI.manifest, config: { ...config, vendor: 1 }, layers: [{ ...layer, annotations: { a: 'b' }, vendor: { x: [1] } }], vendor: true };
    assert.deepEqual(parseManifest(json(manifest)), manifest);
    const index = { schemaVersion: 2, manifests: [{ ...layer, platform: { os: 'linux', architecture: 'arm', variant: 'v7', vendor: 1 } }], vendor: null };
    assert.deepEqual(parseIndex(json(index)), index);
    const image = { architecture: 'amd64', os: 'linux', config: { Cmd: ['x'] }, rootfs: { type: 'layers', diff_ids: [digestOf()], vendor: 1 }, history: [{ empty_layer: true, created_by: 'x' }] };
    assert.deepEqual(parseConfig(json(image)), image);
  });

  it('take the null that Go writes for nothing', () => {
    assert.deepEqual(parseManifest(json({ schemaVersion: 2, config, layers: null, annotations: null })).layers, []);
    assert.deepEqual(parseIndex(json({ schemaVersion: 2, manifests: null })).manifests, []);
    assert.deepEqual(parseConfig(json({ rootfs: { type: 'layers', diff_ids: null }, history: null })).rootfs.diff_ids, []);
    assert.deepEqual(parseDescriptor({ ...layer, annotations: null, urls: null, platform: null }), layer);
  });

  it('are refused with a name and a place when they are malformed', () => {
    const cases: readonly [() => unknown, RegExp][] = [
      [() => parseManifest(Buffer.from('{')), /manifest is not JSON/],
      [() => parseManifest(json([])), /manifest is not a JSON object/],
      [() => parseManifest(json(null)), /not a JSON object/],
      [() => parseManifest(json({ schemaVersion: 1, config, layers: [] })), /schemaVersion/],
      [() => parseManifest(json({ schemaVersion: 2, layers: [] })), /config/],
      [() => parseManifest(json({ schemaVersion: 2, config, layers: [{ ...layer, size: -1 }] })), /layers\.0\.size/],
      [() => parseManifest(json({ schemaVersion: 2, config, layers: [{ ...layer, size: 2 ** 53 }] })), /layers\.0\.size/],
      [() => parseManifest(json({ schemaVersion: 2, config, layers: [{ ...layer, size: 1.5 }] })), /layers\.0\.size/],
      [() => parseManifest(json({ schemaVersion: 2, config, layers: [{ ...layer, digest: 'sha256:../../x' }] })), /layers\.0\.digest.*not a sha256/],
      [() => parseManifest(json({ schemaVersion: 2, config, layers: [layer], manifests: [] })), /index and a manifest at once/],
      [() => parseIndex(json({ schemaVersion: 2, manifests: [], config })), /index and a manifest at once/],
      [() => parseIndex(json({ schemaVersion: 2, manifests: {} })), /manifests/],
      [() => parseConfig(json({})), /rootfs/],
      [() => parseConfig(json({ rootfs: { type: 'layers', diff_ids: ['sha256:x'] } })), /rootfs\.diff_ids\.0/],
      [() => parseDescriptor('x', 'the entry'), /the entry is malformed/],
    ];
    for (const [parse, message] of cases) assert.throws(parse, (error: unknown) => error instanceof LazypullError && error.code === 'CORRUPT' && message.test(error.message), String(message));
  });

  it('have the type that header, field and shape agree on', () => {
    const manifest = json({ schemaVersion: 2, config, layers: [] });
    const index = json({ schemaVersion: 2, manifests: [] });
    assert.equal(manifestMediaType(manifest, undefined), OCI.manifest);
    assert.equal(manifestMediaType(index, undefined), OCI.index);
    assert.equal(manifestMediaType(manifest, 'text/plain'), OCI.manifest);
    assert.equal(manifestMediaType(manifest, `${DOCKER.manifest}; charset=utf-8`), DOCKER.manifest);
    assert.equal(manifestMediaType(json({ mediaType: DOCKER.index, manifests: [] }), 'application/json'), DOCKER.index);
    assert.throws(() => manifestMediaType(json({ mediaType: DOCKER.index, manifests: [] }), OCI.index), { code: 'CORRUPT' });
    assert.throws(() => manifestMediaType(json({}), undefined), { code: 'CORRUPT' });
    assert.throws(() => manifestMediaType(json({ schemaVersion: 1 }), undefined), { code: 'UNSUPPORTED' });
    assert.throws(() => manifestMediaType(json({}), 'application/vnd.docker.distribution.manifest.v1+prettyjws'), { code: 'UNSUPPORTED' });
    assert.throws(() => manifestMediaType(json({ manifests: [], layers: [] }), OCI.index), { code: 'CORRUPT' });
  });

  it('survive anything with a LazypullError', () => {
    const value = fc.oneof(fc.json(), fc.record({ schemaVersion: fc.constant(2), manifests: fc.jsonValue(), config: fc.jsonValue(), layers: fc.jsonValue(), mediaType: fc.jsonValue(), rootfs: fc.jsonValue() }, { requiredKeys: [] }).map((v) => JSON.stringify(v)), fc.string());
    fc.assert(fc.property(value, (text) => {
      for (const parse of [parseIndex, parseManifest, parseConfig, (bytes: Uint8Array) => manifestMediaType(bytes, undefined)]) {
        try {
          parse(Buffer.from(text));
        } catch (error) {
          assert.ok(error instanceof LazypullError, String(error));
        }
      }
    }));
  });

  it('are written compact, in the order given, and described by their bytes', () => {
    const bytes = encodeDocument({ b: 1, a: '<ä>' });
    assert.equal(Buffer.from(bytes).toString('utf8'), '{"b":1,"a":"<ä>"}');
    assert.deepEqual(descriptorOf(OCI.manifest, bytes), { mediaType: OCI.manifest, digest: digestOf(bytes), size: bytes.length });
  });
});
