import { printable } from '../../src/core/errors.ts';
import type { StoredImage } from '../../src/core/format.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { MANIFEST_LIMIT, parseManifest } from '../../src/oci/documents.ts';
import { finding } from './finding.ts';
import { goDifference } from './go-json.ts';
import { CONFIG, decodeSociIndex, joinLayers, type SociIndex } from './index-manifest.ts';
import { ANNOTATION, INDEX_TYPE, PREFETCH_MEDIA_TYPE, ZTOC_MEDIA_TYPE } from './layout.ts';

export interface CheckedIndex {
  readonly problems: readonly string[];
  /** Why a snapshotter cannot use the index at all: one clause. */
  readonly useless?: string;
  /** Layers of the image that it would mount lazily. */
  readonly lazyLayers: number;
}

/**
 * Holds an index manifest against the rules (notes §7.1) and against the image it is about. What is wrong is told, not
 * thrown. zTOCs and prefetch lists are looked into when the layers are opened.
 */
export async function checkIndex(image: StoredImage, descriptor: Descriptor, version: 1 | 2, signal?: AbortSignal): Promise<CheckedIndex> {
  const what = `SOCI index ${descriptor.digest}`;
  let index: SociIndex;
  let bytes: Uint8Array;
  try {
    bytes = await image.fetch(descriptor, MANIFEST_LIMIT, signal);
    index = decodeSociIndex(bytes, what);
  } catch (error) {
    return { problems: [finding(error)], useless: 'its SOCI index cannot be read', lazyLayers: 0 };
  }
  const problems: string[] = [];
  const lazy = joinLayers(index);
  const lazyLayers = image.layers.filter(({ digest }) => lazy.has(digest)).length;
  let useless = lazyLayers === 0 ? 'no zTOC in its SOCI index is about one of its layers' : undefined;
  const at = goDifference(bytes, what);
  if (at !== undefined) {
    problems.push(`${what} is not canonical JSON (byte ${at} on): the snapshotter's store rejects it and pulls the whole image eagerly`);
    useless = 'its SOCI index is not canonical JSON';
  }
  problems.push(...versionProblems(image, index, version, what), ...layerProblems(image, index, what));
  const { config, layers } = parseManifest(bytes, what);
  problems.push(...(await configProblems(image, config, what, signal)));
  for (const type of new Set(layers.map(({ mediaType }) => mediaType))) {
    if (type !== ZTOC_MEDIA_TYPE && type !== PREFETCH_MEDIA_TYPE) problems.push(`${what} lists a blob of media type ${printable(type.slice(0, 140))}, of which no reader knows anything`);
  }
  return { problems, ...(useless && { useless }), lazyLayers };
}

function versionProblems({ descriptor }: StoredImage, { version, subject }: SociIndex, wanted: 1 | 2, what: string): string[] {
  const problems: string[] = [];
  if (version !== wanted) problems.push(`${what} is a v${version} index where a v${wanted} index belongs`);
  if (version === 2 && subject) problems.push(`${what} is a v2 index and has a subject`);
  if (version === 1 && !subject) problems.push(`${what} is a v1 index without a subject`);
  if (subject && subject.digest !== descriptor.digest) problems.push(`${what} has the subject ${subject.digest}, which is not this image`);
  else if (subject && (subject.size !== descriptor.size || subject.mediaType !== descriptor.mediaType)) {
    problems.push(`${what} says its subject is ${subject.size} bytes of ${printable(subject.mediaType.slice(0, 140))}; it is ${descriptor.size} bytes of ${descriptor.mediaType}`);
  }
  return problems;
}

function layerProblems({ layers }: StoredImage, { ztocs, prefetch }: SociIndex, what: string): string[] {
  const problems: string[] = [];
  const types = new Map<string, string>(layers.map(({ digest, mediaType }) => [digest, mediaType]));
  const seen = new Set<string>();
  for (const { digest, mediaType, annotations = {} } of [...ztocs, ...prefetch]) {
    const isZtoc = mediaType === ZTOC_MEDIA_TYPE;
    const it = `${what}: ${isZtoc ? 'zTOC' : 'prefetch list'} ${digest}`;
    const wanted = isZtoc ? [ANNOTATION.layerDigest, ANNOTATION.layerMediaType, ANNOTATION.spanSize] : [ANNOTATION.layerDigest];
    const missing = wanted.filter((key) => annotations[key] === undefined);
    if (missing.length > 0) problems.push(`${it} lacks ${missing.join(', ')}`);
    const layer = annotations[ANNOTATION.layerDigest];
    if (layer === undefined) continue;
    const name = printable(layer.slice(0, 140));
    const type = types.get(layer);
    if (type === undefined) {
      problems.push(`${it} is about ${name}, which is not a layer of this image`);
      continue;
    }
    if (seen.has(`${mediaType} ${layer}`)) problems.push(`${it} is not the only one about layer ${name}: which of them is used is undefined`);
    seen.add(`${mediaType} ${layer}`);
    const said = annotations[ANNOTATION.layerMediaType];
    if (isZtoc && said !== undefined && said !== type) problems.push(`${it} says that layer ${name} is ${printable(said.slice(0, 140))}; it is ${type}`);
    const span = annotations[ANNOTATION.spanSize];
    if (isZtoc && span !== undefined && !/^\d{1,16}$/.test(span)) problems.push(`${it} has a span size that is no number: ${printable(span.slice(0, 40))}`);
    if (!isZtoc && !seen.has(`${ZTOC_MEDIA_TYPE} ${layer}`)) problems.push(`${it} is about layer ${name}, which has no zTOC`);
  }
  return problems;
}

/** Nobody reads the config's blob, but registries and copying tools want to see it. */
async function configProblems(image: StoredImage, config: Descriptor, what: string, signal: AbortSignal | undefined): Promise<string[]> {
  if (config.digest !== CONFIG.digest || config.size !== CONFIG.size) return [`${what} has the config ${config.digest} of ${config.size} bytes; it has to be {}, ${CONFIG.digest}`];
  try {
    await image.fetch({ mediaType: INDEX_TYPE.v2, ...CONFIG }, CONFIG.size, signal);
    return [];
  } catch (error) {
    return [`${what}: its config is not there: ${finding(error)}`];
  }
}
