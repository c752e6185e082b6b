import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { copyInto } from '../../core/bytes.ts';
import { LazypullError } from '../../core/errors.ts';
import type { Format } from '../../core/format.ts';
import type { DirectoryNode, OpenLayer, Platform, RegularNode } from '../../core/types.ts';
import { mapRuns, type DeviceRun } from '../../erofs/place.ts';
import { planErofs } from '../../erofs/plan.ts';
import { writeErofs } from '../../erofs/write.ts';
import type { ImageLayer } from '../../image/image-layer.ts';
import { mapLimited } from '../../image/limited.ts';
import type { OpenImage } from '../../image/open.ts';
import { walk } from '../../layer/walk.ts';
import { encodeDocument } from '../../oci/documents.ts';
import { LayerAddresses } from './addresses.ts';
import { landmarks } from './ahead.ts';
import type { MountCache } from './cache.ts';
import { deviceKey } from './keys.ts';
import { loadPlan, placeName, planName, rememberPlace, storePlan } from './plan-file.ts';
import { planPremade } from './premade.ts';
import { treeName } from './stored-plan.ts';
import type { MadePlan, MountPlan, PlannedDevice, PlannedLayer } from './types.ts';

export interface PlanOptions {
  readonly formats: readonly Format<unknown>[];
  /** The platform that was asked for, if one was: part of what an image is remembered under. */
  readonly platform?: Platform;
  /** Makes a new plan even if there is one. */
  readonly anew?: boolean;
  /** What layers say should be fetched first will be: it is on its way while the rest is planned. */
  readonly ahead?: boolean;
  readonly signal?: AbortSignal;
}

/** Layers whose indexes are read side by side. */
const PARALLEL = 4;
const MAX_WARNINGS = 20;

/**
 * Decides what a mount of an image shows and where its bytes are: the merged tree as an EROFS image without content, and a
 * device for each blob that files are in. A plan that the cache has is taken; so no layer is opened twice for it.
 */
export async function planMount(image: OpenImage, cache: MountCache, options: PlanOptions): Promise<MountPlan> {
  const name = planName(image.descriptor.digest, image.platform);
  const plan = (options.anew ? undefined : await loadPlan(cache, name, namesOf(options.formats))) ?? (await makePlan(image, cache, options));
  await rememberPlace(cache, placeOf(image), options.platform, name);
  return { ...plan, warnings: [...image.warnings, ...plan.warnings] };
}

/**
 * The plan that a name led to the last time, for when its store cannot be asked; undefined when there is none. What the name
 * leads to by now may be something else.
 */
export async function knownPlan(cache: MountCache, place: { readonly location: string; readonly reference: string }, options: Pick<PlanOptions, 'formats' | 'platform'>): Promise<MountPlan | undefined> {
  const name = await placeName(cache, place, options.platform);
  return name === undefined ? undefined : loadPlan(cache, name, namesOf(options.formats));
}

function placeOf({ place: { store, reference } }: OpenImage): { readonly location: string; readonly reference: string } {
  return { location: store.location, reference };
}

function namesOf(formats: readonly Format<unknown>[]): ReadonlySet<string> {
  return new Set(formats.map((format) => format.name));
}

async function makePlan(image: OpenImage, cache: MountCache, { formats, signal, ahead = false }: PlanOptions): Promise<MountPlan> {
  // Where each layer says itself what it is (eStargz, Nydus) the image vouches for all that is needed, and asking who else has something to say about it
  // would only take time. What else vouches for an image's index (SOCI) costs many times the bytes of a tree that was published.
  const own = image.layers.every(({ claimed, descriptor }) => claimed && descriptor.annotations !== undefined);
  const stored = own ? undefined : image.layers[0]?.stored.image;
  for (const format of formats) {
    const premade = stored && (await format.premade?.(stored, signal));
    if (premade) return keep(cache, image, await planPremade(image, format.name, premade));
  }
  return keep(cache, image, await planMerged(image, ahead ? cache : undefined, signal));
}

async function keep(cache: MountCache, image: OpenImage, made: MadePlan): Promise<MountPlan> {
  const bytes = new Uint8Array(made.metadata);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const metadataFile = await cache.putTree(treeName(sha256), bytes);
  const plan = { ...made, metadataFile, digest: image.descriptor.digest, platform: image.platform, config: encodeDocument(image.config) };
  if (metadataFile !== undefined) await storePlan(cache, plan, sha256);
  return plan;
}

/** A layer that may have files in the tree. */
interface Source {
  readonly number: number;
  readonly layer: ImageLayer;
  readonly open: OpenLayer;
  readonly format: string;
  readonly addresses: LayerAddresses;
  /** Of its devices, as far as somebody has asked for them. */
  readonly keys: Map<number, string>;
}

/** `ahead`: where content that is expected would be kept. */
async function planMerged(image: OpenImage, ahead: MountCache | undefined, signal: AbortSignal | undefined): Promise<MadePlan> {
  const scope = scopeOf(image);
  const sources = await mapLimited(image.layers, PARALLEL, async (layer, either): Promise<Source> => {
    const open = await layer.open(either);
    const format = (await layer.format(either))?.name ?? open.format;
    const source = { number: layer.number, layer, open, format, addresses: new LayerAddresses(open), keys: new Map<number, string>() };
    if (ahead) expectLandmarks(source, scope, ahead);
    return source;
  }, signal);
  const tree = await image.tree(signal);
  await breath();
  const layout = new Layout(sources, image, tree);
  const { devices } = layout;
  const blockSize = devices.some(({ tiles }) => tiles) ? 512 : 4096;
  await breath();
const plan = planErofs(tree, { blockSize, devices: devices.map(({ key, size }) => ({ tag: key, size })), place: (node) => (node.size === 0 ? undefined : mapRuns(layout.runs(node), blockSize)) });
  await breath();
const metadata = new SharedArrayBuffer(plan.size);
  const target = new Uint8Array(metadata);
  let at = 0;
  await writeErofs(plan, async (bytes) => {
    copyInto(target, bytes, at);
    at += bytes.length;
  }, signal ? { signal } : {});
  await breath();
return { layers: sources.map(({ layer, format }): PlannedLayer => ({ digest: layer.descriptor.digest, diffId: layer.diffId, format })), devices, blockSize, metadata, warnings: [...plan.warnings, ...layerWarnings(sources)] };
}

/** Planning takes the processor for a while: between its steps what goes on besides has its turn. */
const breath = (): Promise<void> => setImmediate();

/** Has begun to fetch what a layer says should be fetched first, unless its content has been here before. */
function expectLandmarks(source: Source, scope: string, cache: MountCache): void {
  const { index, sources } = source.open;
  for (const { offset, end, blob = 0 } of index.prefetch ?? []) {
    const device = source.addresses.devices.findIndex((one) => one.blob === blob);
    if (device >= 0 && !cache.knows(keyOf(source, device, scope))) sources[blob]?.expect?.(offset, end - offset);
  }
}

function scopeOf(image: OpenImage): string {
  return `${image.place.store.location} ${image.descriptor.digest}`;
}

function keyOf({ layer, open, format, addresses, keys }: Source, device: number, scope: string): string {
  const key = keys.get(device) ?? deviceKey(open, addresses, device, { layer: layer.descriptor.digest, format, scope });
  keys.set(device, key);
  return key;
}

/** What does not keep a layer from being read, and yet is not as it should be. */
function layerWarnings(sources: readonly Source[]): readonly string[] {
  const warnings = sources.flatMap(({ layer, open }) => (open.problems ?? []).map((problem) => `${layer.name}: ${problem}`));
  const more = warnings.length - MAX_WARNINGS;
  return more > 0 ? [...warnings.slice(0, MAX_WARNINGS), `${more} more of that kind`] : warnings;
}

/** The devices that the files of a merged tree are on, numbered. */
class Layout {
  readonly devices: PlannedDevice[] = [];
  readonly #sources: readonly Source[];
  /** By layer and device of it: number in the mount, from 1. */
  readonly #numbers: readonly Map<number, number>[];
  /** Neighbours in a tree are mostly from one layer. */
  #last: Source | undefined;

  constructor(sources: readonly Source[], image: OpenImage, tree: DirectoryNode) {
    this.#sources = sources;
    this.#numbers = sources.map(() => new Map());
    const used = sources.map(() => new Set<number>());
    let open = sources.reduce((sum, { addresses }) => sum + addresses.devices.length, 0);
    for (const { path, node } of walk(tree)) {
      // Mostly all of them soon have been met.
      if (open === 0) break;
      if (node.type !== 'file' || node.size === 0) continue;
      const { addresses, number } = this.#sourceOf(node, path);
      const met = used[number] as Set<number>;
      if (met.size === addresses.devices.length) continue;
      open += met.size;
      for (const { device = 0 } of addresses.runs(node, (own) => own)) met.add(device);
      open -= met.size;
    }
    for (const source of sources) for (const device of [...(used[source.number] ?? [])].sort((a, b) => a - b)) this.#add(source, device, keyOf(source, device, scopeOf(image)));
  }

  runs(node: RegularNode): readonly DeviceRun[] {
    const { addresses, number } = this.#sourceOf(node, '');
    return addresses.runs(node, (device) => this.#numbers[number]?.get(device) as number);
  }

  #sourceOf(node: RegularNode, path: string): Source {
    const chunk = node.extents[0]?.chunk;
    const has = (source: Source | undefined): source is Source => chunk !== undefined && source?.addresses.numberOf(chunk) !== undefined;
    if (!has(this.#last)) this.#last = this.#sources.find(has);
    if (!this.#last) throw new LazypullError('INTERNAL', 'a file is in no layer', { path });
    return this.#last;
  }

  /** The same layer twice, or the same bytes in two layers, are one device. */
  #add({ number, open, addresses }: Source, device: number, key: string): void {
    const { blob, size, regions } = addresses.devices[device] as LayerAddresses['devices'][number];
    let at = this.devices.findIndex((known) => known.key === key);
    if (at < 0) {
      at = this.devices.length;
      const tree = size > regions || addresses.unlisted || open.proof !== undefined;
      this.devices.push({ key, size, layer: number, blob, tiles: addresses.tiles, tree, ahead: landmarks(open, addresses, device) });
    }
    this.#numbers[number]?.set(device, at + 1);
  }
}
