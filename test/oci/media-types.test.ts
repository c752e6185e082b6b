import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DOCKER, DOCKER_SCHEMA1, isForeignLayer, isIndexType, isManifestType, isTarLayer, MANIFEST_ACCEPT, OCI, toOciType } from '../../src/oci/media-types.ts';

describe('media types', () => {
  it('are sorted into kinds', () => {
    for (const type of [OCI.index, DOCKER.index]) assert.deepEqual([isIndexType(type), isManifestType(type), isTarLayer(type)], [true, false, false], type);
    for (const type of [OCI.manifest, DOCKER.manifest]) assert.deepEqual([isIndexType(type), isManifestType(type), isTarLayer(type)], [false, true, false], type);
    for (const kind of ['layer', 'layerGzip', 'layerZstd'] as const) {
      for (const type of [OCI[kind], DOCKER[kind]]) assert.deepEqual([isTarLayer(type), isForeignLayer(type)], [true, false], type);
    }
    for (const type of [OCI.config, OCI.empty, DOCKER.config, 'application/vnd.erofs.layer.v1', `${OCI.layer}+lz4`, `x${OCI.layer}`]) assert.equal(isTarLayer(type), false, type);
  });

  it('know layers that live elsewhere', () => {
    const foreign = ['application/vnd.oci.image.layer.nondistributable.v1.tar', 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'];
    for (const type of foreign) assert.deepEqual([isForeignLayer(type), isTarLayer(type)], [true, true], type);
  });

  it('of Docker have an OCI name each, which stays', () => {
    for (const kind of ['index', 'manifest', 'config', 'layer', 'layerGzip', 'layerZstd'] as const) {
      assert.equal(toOciType(DOCKER[kind]), OCI[kind]);
      assert.equal(toOciType(OCI[kind]), OCI[kind]);
    }
    assert.equal(toOciType('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'), 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip');
    assert.equal(toOciType('application/x-other'), 'application/x-other');
  });

  it('are all asked for', () => {
    for (const type of [OCI.index, OCI.manifest, DOCKER.index, DOCKER.manifest, '*/*;q=0.1']) assert.ok(MANIFEST_ACCEPT.split(', ').includes(type), type);
  });

  it('include those of schema 1, which are refused', () => {
    for (const end of ['json', 'prettyjws']) assert.match(`application/vnd.docker.distribution.manifest.v1+${end}`, DOCKER_SCHEMA1);
    assert.doesNotMatch(DOCKER.manifest, DOCKER_SCHEMA1);
  });
});
