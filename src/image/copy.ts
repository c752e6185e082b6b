import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError } from '../core/errors.ts';
import { streamOf } from '../core/stream.ts';
import type { Binding } from '../core/format.ts';
import type { Descriptor, ImageStore, Platform } from '../core/types.ts';
import { narrowRoot, type Narrowed } from './narrow.ts';
import { CopyPlan, type PlannedDocument } from './copy-plan.ts';
import { planDigestTags, planReferrers } from './copy-referrers.ts';
import { checkDocumentType } from './documents.ts';
import { mapLimited } from './limited.ts';
import { resolveIfThere, spellPlace, type Place } from './place.ts';
import type { ImageProgress } from './progress.ts';
import { transferBlob, type TransferAction } from './transfer.ts';

export interface CopyOptions {
  /** Only these platforms of an index; default: all of it, byte for byte. */
  readonly platforms?: readonly Platform[];
  /** Also what refers to the image (signatures, SBOMs), recursively, and tags like `sha256-<hex>.sig`. */
  readonly referrers?: boolean;
  /** Suffixes of tags that belong to the image's own (an external TOC): images so tagged are copied along if the source has them. */
  readonly companions?: readonly string[];
  /** How formats tie artifacts to images: an artifact that a copied manifest names is copied along. */
  readonly bindings?: readonly Binding[];
  /** Only say what would be done. */
  readonly dryRun?: boolean;
  /** Blobs side by side; default 3. */
  readonly jobs?: number;
  /** Do nothing when the target's tag is this image already. */
  readonly ifChanged?: boolean;
  /** Fail (USAGE) rather than move a tag that is another image. */
  readonly noClobber?: boolean;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ImageProgress) => void;
}

interface Tally {
  readonly total: number;
  readonly copied: number;
  readonly mounted: number;
  /** In the target already. */
  readonly existing: number;
}

/** What a copy did, or with `dryRun` would do (mounts count as copies then). Stable: it is what `--json` prints. */
export interface CopyReport {
  readonly source: string;
  readonly target: string;
  /** Root of the image as it is in the target. */
  readonly digest: Digest;
  readonly mediaType: string;
  readonly action: 'copied' | 'unchanged' | 'planned';
  /** The index was written anew because only some platforms were wanted; its digest is not the source's. */
  readonly rewritten: boolean;
  readonly manifests: Tally;
  readonly blobs: Tally;
  /** Blob bytes. */
  readonly bytes: Tally;
  /** Digests of layers that no registry holds and that were not copied. */
  readonly foreign: readonly Digest[];
  readonly referrers: number;
  /** Tags set in the target, the image's own last. */
  readonly tags: readonly string[];
  readonly warnings: readonly string[];
}

const DEFAULT_JOBS = 3;

/**
 * Copies an image byte for byte (registry.md §16): blobs that are missing, manifests, indexes above them, and the tag when
 * all of it is there. Whatever fails before, the target's tags stay as they were.
 */
export async function copyImage(source: Place, target: Place, options: CopyOptions = {}): Promise<CopyReport> {
  const { signal } = options;
  const sourceRoot = await source.store.resolve(source.reference, signal);
  checkDocumentType(source.store, sourceRoot);
  const narrowed: Narrowed = options.platforms?.length
    ? await narrowRoot(source.store, sourceRoot, options.platforms, signal)
    : { root: sourceRoot, written: new Map(), warnings: [] };
  const { root } = narrowed;
  const unchanged = await checkTarget(target, root, options);
  const plan = new CopyPlan(source.store, narrowed.written, (options.bindings ?? []).map(({ artifactKey }) => artifactKey));
  const warnings = [...narrowed.warnings];
  let referrers = 0;
  const moreTags = await companionsOf(source, target, options);
  for (const image of moreTags.values()) await plan.add(image, signal);
  if (!unchanged || options.referrers) await plan.add(root, signal);
  if (options.referrers) {
    referrers = await planReferrers(source.store, plan, signal);
    for (const [tag, image] of await planDigestTags(source.store, plan, signal)) moreTags.set(tag, image);
    if (root.digest !== sourceRoot.digest) warnings.push(`what refers to ${sourceRoot.digest} as a whole is not copied`);
  }
  const copy = new Copy(source.store, target.store, plan, options);
  await copy.run();
  const tags = [...moreTags.keys(), ...(isDigest(target.reference) || unchanged ? [] : [target.reference])];
  if (!options.dryRun) {
    for (const [tag, image] of moreTags) await target.store.tag(image, tag, signal);
    if (!unchanged) await setTag(target, root, signal);
  }
  return {
    source: spellPlace(source),
    target: spellPlace(target),
    digest: root.digest,
    mediaType: root.mediaType,
    action: options.dryRun ? 'planned' : unchanged ? 'unchanged' : 'copied',
    rewritten: root.digest !== sourceRoot.digest,
    ...copy.tallies(),
    foreign: [...plan.foreign.keys()],
    referrers,
    tags,
    warnings,
  };
}

/** Tags of the target for images that stand beside the source's tag. An image known by digest alone has none. */
async function companionsOf(source: Place, target: Place, { companions = [], signal }: CopyOptions): Promise<Map<string, Descriptor>> {
  const found = new Map<string, Descriptor>();
  if (source.reference === '' || target.reference === '' || isDigest(source.reference) || isDigest(target.reference)) return found;
  for (const suffix of companions) {
    const image = await resolveIfThere(source.store, `${source.reference}${suffix}`, signal);
    if (image) found.set(`${target.reference}${suffix}`, image);
  }
  return found;
}

/** Whether nothing needs to be done; USAGE when the target must not be touched. */
async function checkTarget(target: Place, root: Descriptor, options: CopyOptions): Promise<boolean> {
  const { store, reference } = target;
  if (isDigest(reference)) {
    if (reference !== root.digest) throw new LazypullError('USAGE', `the image is ${root.digest} and cannot be stored as ${reference}`);
    return false;
  }
  if (!options.ifChanged && !options.noClobber) return false;
  const there = await resolveIfThere(store, reference, options.signal);
  if (!there) return false;
  if (there.digest === root.digest) return true;
  if (options.noClobber) throw new LazypullError('USAGE', `${spellPlace(target)} exists already and is another image (${there.digest})`);
  return false;
}

async function setTag(target: Place, root: Descriptor, signal: AbortSignal | undefined): Promise<void> {
  await target.store.tag(root, target.reference, signal);
  const stored = await target.store.resolve(target.reference, signal);
  if (stored.digest !== root.digest) throw new LazypullError('DIGEST_MISMATCH', `${spellPlace(target)} is ${stored.digest} after the copy, not ${root.digest}`);
}

/** One run over a plan. */
class Copy {
  readonly #source: ImageStore;
  readonly #target: ImageStore;
  readonly #plan: CopyPlan;
  readonly #options: CopyOptions;
  readonly #manifests = new TallySheet();
  readonly #blobs = new TallySheet();
  readonly #bytes = new TallySheet();

  constructor(source: ImageStore, target: ImageStore, plan: CopyPlan, options: CopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#plan = plan;
    this.#options = options;
  }

  tallies(): { manifests: Tally; blobs: Tally; bytes: Tally } {
    return { manifests: this.#manifests.tally, blobs: this.#blobs.tally, bytes: this.#bytes.tally };
  }

  /** Blobs first, the largest of them first of all; then documents, children before parents. */
  async run(): Promise<void> {
    const blobs = [...this.#plan.blobs.values()].sort((a, b) => b.size - a.size);
    this.#options.progress?.({ type: 'total', blobs: blobs.length, bytes: blobs.reduce((sum, { size }) => sum + size, 0) });
    await this.#each(blobs, (blob, signal) => this.#blob(blob, signal));
    const heights = new Map<number, PlannedDocument[]>();
    for (const document of this.#plan.documents.values()) {
      const level = heights.get(document.height);
      if (level) level.push(document);
      else heights.set(document.height, [document]);
    }
    for (const [, level] of [...heights].sort(([a], [b]) => a - b)) {
      // Referrers one after the other: a registry without the API has one list of them, which every push updates.
      await this.#each(level.filter(({ subject }) => !subject), (document, signal) => this.#document(document, signal));
      for (const document of level.filter(({ subject }) => subject)) await this.#document(document, this.#options.signal);
    }
  }

  #each<T>(items: readonly T[], work: (item: T, signal: AbortSignal) => Promise<void>): Promise<void[]> {
    return mapLimited(items, this.#options.jobs ?? DEFAULT_JOBS, work, this.#options.signal);
  }

  async #blob(blob: Descriptor, signal: AbortSignal): Promise<void> {
    const action = await this.#bring(blob, signal);
    this.#blobs.add(action, 1);
    this.#bytes.add(action, blob.size);
    this.#options.progress?.({ type: 'blob', digest: blob.digest, size: blob.size, moved: action === 'copied' && !this.#options.dryRun });
  }

  async #bring(blob: Descriptor, signal: AbortSignal): Promise<TransferAction> {
    if (this.#options.dryRun) return this.#source === this.#target || (await this.#target.has(blob, signal)) ? 'exists' : 'copied';
    const moved = (bytes: number): void => this.#options.progress?.({ type: 'bytes', bytes });
    return transferBlob(this.#source, this.#target, blob, { signal, moved });
  }

  async #document({ descriptor, subject }: PlannedDocument, signal: AbortSignal | undefined): Promise<void> {
    const exists = await this.#target.has(descriptor, signal);
    this.#manifests.add(exists ? 'exists' : 'copied', 1);
    if (this.#options.dryRun || (exists && !subject)) return;
    const bytes = await this.#plan.bytes(descriptor, signal);
    await this.#target.push(descriptor, () => streamOf(bytes), signal);
  }
}

class TallySheet {
  readonly tally = { total: 0, copied: 0, mounted: 0, existing: 0 };

  add(action: TransferAction, amount: number): void {
    this.tally.total += amount;
    this.tally[action === 'exists' ? 'existing' : action] += amount;
  }
}
