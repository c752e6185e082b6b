import { isDigest } from '../../src/core/digest.ts';
import { LazypullError, printable, type ErrorCode } from '../../src/core/errors.ts';
import type { Examination, StoredImage } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { isTarLayer } from '../../src/oci/media-types.ts';
import { formatPlatform, normalizePlatform } from '../../src/oci/platform.ts';
import type { BlobEntry } from './bootstrap-layout.ts';
import { ANNOTATION, BLOB_FEATURE, BLOB_MEDIA_TYPE, MANIFEST_ARTIFACT_TYPE, OS_FEATURE } from './layout.ts';
import { bootstrapOf } from './read.ts';
import { checkToc, readMembers } from './read-members.ts';

/** What content may do wrong; everything else is about reaching it. */
const FINDINGS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_FOUND', 'CORRUPT', 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'UNSUPPORTED', 'LIMIT']);

/** Looks at how a Nydus image is packaged (§16), and tells what a nydus-snapshotter would make of it. */
export async function examineNydus(image: StoredImage, signal?: AbortSignal): Promise<Examination | undefined> {
  const { layers } = image;
  const isBootstrap = ({ annotations }: Descriptor): boolean => annotations?.[ANNOTATION.bootstrap] === 'true';
  const isData = (layer: Descriptor): boolean => layer.mediaType === BLOB_MEDIA_TYPE || layer.annotations?.[ANNOTATION.blob] === 'true';
  const bootstraps = layers.filter(isBootstrap);
  if (bootstraps.length === 0 && !layers.some(isData)) return undefined;
  const problems: string[] = [];
  const last = layers.at(-1);
  if (bootstraps.length > 1) problems.push(`${bootstraps.length} layers are annotated as Nydus bootstrap`);
  if (!last || !isBootstrap(last)) {
    problems.push(bootstraps.length === 0 ? 'the image has Nydus blobs, but no bootstrap layer' : 'the Nydus bootstrap layer is not the last one');
    return { problems, notes: ['a nydus-snapshotter cannot mount this image: it wants a bootstrap as the last layer'] };
  }
  problems.push(...packagingProblems(image, isData, isBootstrap), ...platformProblems(image));
  try {
    const { version, blobs } = await bootstrapOf({ descriptor: last, source: image.open(last), image }, signal);
    problems.push(...versionProblems(last, version));
    let lost = 0;
    for (const blob of blobs) {
      const found = await blobProblems(image, last, blob, signal);
      problems.push(...found.problems);
      if (found.lost) lost += 1;
    }
    const refs = blobs.filter(({ features }) => (features & BLOB_FEATURE.separate) !== 0).length;
    const where = refs === 0 ? '' : `; ${refs === blobs.length ? 'all' : refs} of them are plain layers, read through zran contexts`;
    const fate = lost === 0 ? 'a nydus-snapshotter mounts this image lazily' : `a nydus-snapshotter mounts this image, but cannot read what is in ${lost} of its blobs`;
    return { problems: [...new Set(problems)], notes: [`${fate} (RAFS v${version}, ${blobs.length} ${blobs.length === 1 ? 'blob' : 'blobs'}${where}); other runtimes cannot unpack it`] };
  } catch (error) {
    if (!isFinding(error)) throw error;
    return { problems: [...problems, error.message], notes: ['a nydus-snapshotter cannot mount this image: its bootstrap cannot be read'] };
  }
}

function packagingProblems({ layers, diffIds }: StoredImage, isData: (layer: Descriptor) => boolean, isBootstrap: (layer: Descriptor) => boolean): string[] {
  const problems: string[] = [];
  for (const [i, layer] of layers.entries()) {
    const what = `layer ${i + 1} (${layer.digest})`;
    if (isBootstrap(layer)) {
      if (!isTarLayer(layer.mediaType)) problems.push(`${what} is annotated as bootstrap, but has media type ${printable(layer.mediaType.slice(0, 140))}`);
      continue;
    }
    if (!isData(layer)) {
      problems.push(`${what} is no Nydus blob (${printable(layer.mediaType.slice(0, 140))}): a nydus-snapshotter has no use for it`);
      continue;
    }
    if (layer.mediaType !== BLOB_MEDIA_TYPE) problems.push(`${what} has media type ${printable(layer.mediaType.slice(0, 140))}, not ${BLOB_MEDIA_TYPE}: containerd tries to unpack it`);
    if (layer.annotations?.[ANNOTATION.blob] !== 'true') problems.push(`${what} has no annotation ${ANNOTATION.blob}: containerd does not know what to do with it`);
    if (diffIds && diffIds[i] !== layer.digest) problems.push(`${what} has diffID ${diffIds[i]} in the image config, but a Nydus blob's is its own digest`);
    const ref = layer.annotations?.[ANNOTATION.ref];
    if (ref !== undefined && !isDigest(ref)) problems.push(`${what}: annotation ${ANNOTATION.ref} is no digest: ${printable(ref.slice(0, 140))}`);
  }
  return problems;
}

/** Beside the plain image in one index there has to be something by which runtimes tell the two apart. */
function platformProblems({ descriptor, entries }: StoredImage): string[] {
  const own = entries?.find(({ digest }) => digest === descriptor.digest);
  if (!own?.platform) return [];
  const spell = ({ platform }: Descriptor): string => (platform ? formatPlatform(normalizePlatform(platform)) : '');
  const twin = entries?.find((entry) => entry !== own && entry.artifactType === undefined && entry.platform && spell(entry) === spell(own));
  const marked = own.artifactType === MANIFEST_ARTIFACT_TYPE || own.platform['os.features']?.includes(OS_FEATURE);
  if (!twin || marked) return [];
  return [`the image index has two images for ${spell(own)}, and neither artifact type nor os.features say which of them is Nydus`];
}

function versionProblems({ annotations }: Descriptor, version: number): string[] {
  const said = annotations?.[ANNOTATION.fsVersion];
  if (said === String(version) || (said === undefined && version === 5)) return [];
  if (said === undefined) return [`the bootstrap layer has no annotation ${ANNOTATION.fsVersion}: it is taken for RAFS v5, and is v${version}`];
  return [`annotation ${ANNOTATION.fsVersion} says ${printable(said.slice(0, 40))}, the bootstrap is RAFS v${version}`];
}

/** Whether a blob of the bootstrap is where readers look for it, and has the TOC that the bootstrap knows. */
async function blobProblems(image: StoredImage, bootstrap: Descriptor, blob: BlobEntry, signal: AbortSignal | undefined): Promise<{ problems: string[]; lost: boolean }> {
  const what = `blob ${blob.index} (${printable(blob.id)})`;
  const separate = (blob.features & BLOB_FEATURE.separate) !== 0;
  const tablesId = separate ? Buffer.from(blob.metaDigest).toString('hex') : blob.id;
  const layer = image.layers.find(({ digest }) => digest === `sha256:${tablesId}`);
  const problems: string[] = [];
  let lost = false;
  if (!isDigest(`sha256:${blob.id}`)) return { problems: [`${what} is named by no digest`], lost: true };
  if (separate && layer && layer.annotations?.[ANNOTATION.ref] !== `sha256:${blob.id}`) problems.push(`layer ${layer.digest} is about ${blob.id}, but its annotation ${ANNOTATION.ref} does not say so`);
  if (!layer && !separate && !referenced(bootstrap).includes(blob.id)) problems.push(`${what} is in no layer of the manifest, and not in annotation ${ANNOTATION.referenceBlobIds}: registries may throw it away`);
  try {
    // Of what the manifest does not name nobody has said yet that it is there.
    if (separate || !layer) await image.open({ mediaType: 'application/octet-stream', digest: `sha256:${blob.id}`, size: blob.compressedSize }).read(0, Math.min(1, blob.compressedSize), signal);
    if (layer && blob.tocSize > 0) checkToc(await readMembers(image.open(layer), what, signal), blob.tocDigest, what);
  } catch (error) {
    if (!isFinding(error)) throw error;
    problems.push(`${what}: ${error.message}`);
    lost = true;
  }
  return { problems, lost };
}

function referenced({ annotations }: Descriptor): readonly unknown[] {
  try {
    const list: unknown = JSON.parse(annotations?.[ANNOTATION.referenceBlobIds] ?? '[]');
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

function isFinding(error: unknown): error is LazypullError {
  return error instanceof LazypullError && FINDINGS.has(error.code);
}

