/** Media types of images (image-spec 1.1 media-types.md; Docker Image Manifest V2, Schema 2). */
export const OCI = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  empty: 'application/vnd.oci.empty.v1+json',
} as const;

export const DOCKER = {
  index: 'application/vnd.docker.distribution.manifest.list.v2+json',
  manifest: 'application/vnd.docker.distribution.manifest.v2+json',
  config: 'application/vnd.docker.container.image.v1+json',
  layer: 'application/vnd.docker.image.rootfs.diff.tar',
  layerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  layerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

/** Docker schema 1, which has no content-addressed config; refused with an explanation. */
export const DOCKER_SCHEMA1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)$/;

/** Sent with every manifest request: docker-registry answers 404 for OCI manifests to a client that does not list them. */
export const MANIFEST_ACCEPT = `${OCI.index}, ${OCI.manifest}, ${DOCKER.index}, ${DOCKER.manifest}, */*;q=0.1`;

export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI.index || mediaType === DOCKER.index;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === OCI.manifest || mediaType === DOCKER.manifest;
}

/** Layers that registries do not hold (deprecated in image-spec 1.1): left as they are, with their `urls`. */
export function isForeignLayer(mediaType: string): boolean {
  return mediaType.includes('.nondistributable.') || mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.');
}

/** Whether a media type names a file system layer that is a tar archive, compressed or not. */
export function isTarLayer(mediaType: string): boolean {
  return /^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?$/.test(mediaType)
    || /^application\/vnd\.docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?$/.test(mediaType);
}

const TO_OCI = new Map<string, string>([
  [DOCKER.index, OCI.index],
  [DOCKER.manifest, OCI.manifest],
  [DOCKER.config, OCI.config],
  [DOCKER.layer, OCI.layer],
  [DOCKER.layerGzip, OCI.layerGzip],
  [DOCKER.layerZstd, OCI.layerZstd],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar', 'application/vnd.oci.image.layer.nondistributable.v1.tar'],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'],
]);

/** The OCI name of a Docker media type; other types are returned unchanged. */
export function toOciType(mediaType: string): string {
  return TO_OCI.get(mediaType) ?? mediaType;
}
