import { isDigest, type Digest } from '../../src/core/digest.ts';
import { printable } from '../../src/core/errors.ts';
import type { BrokenLayer, Examination, StoredImage } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { formatPlatform, normalizePlatform } from '../../src/oci/platform.ts';
import { checkIndex, type CheckedIndex } from './check-index.ts';
import { finding } from './finding.ts';
import { ANNOTATION, INDEX_TYPE } from './layout.ts';

/** v1 indexes of one image that are looked into. One is right. */
const MAX_V1 = 4;

/**
 * What is wrong with an image's SOCI documents, and what a soci-snapshotter (0.15, as it comes) would do with the image.
 * Undefined when it has none. For all other images the cost is one question for referrers.
 */
export async function examineSoci(image: StoredImage, signal?: AbortSignal, broken: readonly BrokenLayer[] = []): Promise<Examination | undefined> {
  // An empty annotation is none, for the snapshotter as well.
  const named = image.annotations[ANNOTATION.indexDigest] || undefined;
  const listed = (image.entries ?? []).filter((entry) => entry.annotations?.[ANNOTATION.imageDigest] === image.descriptor.digest);
  const v1 = await image.referrers(INDEX_TYPE.v1, signal);
  if (named === undefined && listed.length === 0 && v1.length === 0) return undefined;
  const problems: string[] = [];
  for (const { digest } of listed) {
    if (named === undefined) problems.push(`the image index has SOCI index ${digest} for this image, but the manifest has no annotation ${ANNOTATION.indexDigest}: nobody finds it`);
    else if (digest !== named) problems.push(`the image index has SOCI index ${digest} for this image, but the manifest names ${printable(named.slice(0, 140))}`);
  }
  if (v1.length > 1) problems.push(`${v1.length} v1 SOCI indexes refer to this image: which of them is used is undefined`);
  const checked: CheckedIndex[] = [];
  for (const descriptor of v1.slice(0, MAX_V1)) checked.push(await checkIndex(image, descriptor, 1, signal));
  const notes: string[] = [];
  if (named === undefined) {
    notes.push(v1Fate(image, v1[0], checked[0] && asFetched(checked[0], broken)));
  } else {
    const v2 = await checkV2(image, named, signal);
    problems.push(...v2.problems);
    notes.push(v2Fate(image, named, asFetched(v2, broken)));
    if (v1.length > 0) notes.push('the image also has a v1 SOCI index, which is not looked for where its manifest names a v2 index');
  }
  problems.push(...checked.flatMap((one) => one.problems));
  return { problems: [...new Set(problems)], notes };
}

/**
 * What is left of an index when its zTOCs are looked into. All of them are fetched before anything is mounted, and one that
 * cannot be had ends it for the whole image; one that is there and broken ends it for its layer.
 */
function asFetched(checked: CheckedIndex, broken: readonly BrokenLayer[]): CheckedIndex {
  if (checked.useless || broken.length === 0) return checked;
  const missing = broken.find(({ error }) => error.code !== 'CORRUPT' && error.code !== 'LIMIT');
  if (missing) return { ...checked, useless: `the zTOC of layer ${missing.descriptor.digest} cannot be had as its index describes it` };
  const lazyLayers = Math.max(0, checked.lazyLayers - broken.length);
  return lazyLayers > 0 ? { ...checked, lazyLayers } : { ...checked, useless: 'none of its zTOCs can be used' };
}

async function checkV2(image: StoredImage, named: string, signal: AbortSignal | undefined): Promise<CheckedIndex> {
  const what = `annotation ${ANNOTATION.indexDigest}`;
  if (!isDigest(named)) {
    return { problems: [`${what} is no digest: ${printable(named.slice(0, 140))}`], useless: 'its manifest names no digest as its SOCI index', lazyLayers: 0 };
  }
  let descriptor: Descriptor | undefined;
  try {
    descriptor = await image.resolve(named, signal);
  } catch (error) {
    return { problems: [finding(error)], useless: 'its SOCI index cannot be read', lazyLayers: 0 };
  }
  if (!descriptor) {
    const problem = `${what} names ${named}, which is not in the repository: no lazy loading, and no fall back to v1`;
    return { problems: [problem], useless: 'the SOCI index that its manifest names is not in the repository', lazyLayers: 0 };
  }
  const checked = await checkIndex(image, descriptor, 2, signal);
  return { ...checked, problems: [...entryProblems(image, named), ...checked.problems] };
}

/** The other half of the binding (notes §7.3): the index's entry in the image index. Nothing to say of an image on its own. */
function entryProblems({ descriptor, entries }: StoredImage, named: Digest): string[] {
  if (!entries) return [];
  const own = entries.findIndex(({ digest }) => digest === descriptor.digest);
  const at = entries.findIndex(({ digest }) => digest === named);
  const entry = entries[at];
  const what = `SOCI index ${named}`;
  if (!entry) return [`${what} is not in the image index: tools that copy or collect images leave it behind`];
  const problems: string[] = [];
  if (own > at) problems.push(`${what} comes before its image in the image index: who takes the first entry for a platform takes it for the image`);
  const about = entry.annotations?.[ANNOTATION.imageDigest];
  if (about !== descriptor.digest) {
    problems.push(`the entry of ${what} has ${about === undefined ? 'no' : 'another'} image in its annotation ${ANNOTATION.imageDigest}${about === undefined ? '' : `: ${printable(about.slice(0, 140))}`}`);
  }
  // Copiers that do not know the field lose it, and the snapshotter does not look at it; another type is somebody's mistake.
  if (entry.artifactType !== undefined && entry.artifactType !== INDEX_TYPE.v2) problems.push(`the entry of ${what} has artifact type ${printable(entry.artifactType.slice(0, 140))}, not ${INDEX_TYPE.v2}`);
  const platforms = [entries[own] ?? descriptor, entry].map(({ platform }) => (platform ? formatPlatform(normalizePlatform(platform)) : 'no platform'));
  if (platforms[0] !== platforms[1]) problems.push(`the entry of ${what} has ${platforms[1]}, that of its image has ${platforms[0]}`);
  return problems;
}

function v2Fate(image: StoredImage, named: string, { useless, lazyLayers }: CheckedIndex): string {
  if (useless) return eagerly(useless);
  return `a soci-snapshotter mounts this image lazily (v2 index ${named}: ${share(image, lazyLayers)})`;
}

function v1Fate(image: StoredImage, descriptor: Descriptor | undefined, checked: CheckedIndex | undefined): string {
  if (!descriptor || !checked) return eagerly('its manifest names no SOCI index');
  if (checked.useless) return eagerly(checked.useless);
  const found = `v1 index ${descriptor.digest}: ${share(image, checked.lazyLayers)}`;
  return `a soci-snapshotter mounts this image lazily only where pull_modes.soci_v1 is enabled, which is off by default since 0.10 (${found})`;
}

function share({ layers }: StoredImage, lazy: number): string {
  if (lazy === layers.length) return ['its one layer', 'both layers'][lazy - 1] ?? `all ${lazy} layers`;
  return `${lazy} of ${layers.length} layers; the others are too small or cannot be indexed, and are unpacked at start`;
}

function eagerly(why: string): string {
  return `a soci-snapshotter unpacks this image eagerly: ${why}`;
}
