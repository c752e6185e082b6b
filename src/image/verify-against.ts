import type { Digest } from '../core/digest.ts';
import type { DirectoryNode } from '../core/types.ts';
import { compareTrees, type Difference } from '../layer/compare.ts';
import { mergeLayers } from '../layer/overlay.ts';
import type { ImageConfig } from '../oci/documents.ts';
import type { LayerCheck } from './verify-layer.ts';
import type { ProblemList } from './verify-report.ts';

/** One side of a comparison: an image whose layers have been read. */
export interface ComparedImage {
  readonly digest: Digest;
  readonly config: ImageConfig;
  /** Lowest first. */
  readonly layers: readonly LayerCheck[];
}

const LABELS = ['the original', 'the image'] as const;

/**
 * Whether an image shows the same as the original: its layers one by one, the merged tree, and the config. What the
 * formats of either side added to their layers is left out.
 */
export function compareImages(original: ComparedImage, image: ComparedImage, problems: ProblemList): void {
  const report = new DifferenceReport(image.digest, problems);
  // An image in one piece (Nydus) has other layers, and has no names of users.
  const whole = [...original.layers, ...image.layers].some((layer) => layer.whole);
  compareConfigs(original.config, image.config, whole || original.layers.length !== image.layers.length, report);
  const before = original.layers.map(({ tree }) => tree);
  const after = image.layers.map(({ tree }) => tree);
  if (!before.every(isTree) || !after.every(isTree)) {
    // Why is a problem, or for foreign layers a note, of its own.
    problems.notes.add(`image ${image.digest}: trees are not compared, because a layer of one side could not be read`);
    return;
  }
  if (before.length === after.length && !whole) {
    for (const [at, tree] of before.entries()) {
      const ignore = new Set([...(original.layers[at]?.reserved ?? []), ...(image.layers[at]?.reserved ?? [])]);
      report.all(`layer ${at + 1}`, compareTrees(tree, after[at] as DirectoryNode, { labels: LABELS, ignore, names: true }));
    }
  } else {
    const why = whole ? 'is not stored layer by layer' : `has ${after.length} ${after.length === 1 ? 'layer' : 'layers'}, the original ${before.length}`;
    problems.notes.add(`image ${image.digest} ${why}: only what the layers show together is compared`);
  }
  const ignore = new Set([...original.layers, ...image.layers].flatMap(({ reserved }) => reserved));
  report.all('merged tree', compareTrees(mergeLayers(before), mergeLayers(after), { labels: LABELS, ignore, names: !whole }), whole);
  report.finish();
}

function isTree(tree: DirectoryNode | undefined): tree is DirectoryNode {
  return tree !== undefined;
}

/** Everything but the list of diffIDs has to be the same; with other layers also the history is another one. */
function compareConfigs(original: ImageConfig, image: ImageConfig, otherLayers: boolean, report: DifferenceReport): void {
  const [a, b] = [withoutLayers(original), withoutLayers(image)];
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  const differing = keys.filter((key) => !(otherLayers && key === 'history') && canonical(a[key]) !== canonical(b[key]));
  if (differing.length > 0) report.config(differing);
}

function withoutLayers(config: ImageConfig): Record<string, unknown> {
  const { diff_ids: _changed, ...rootfs } = config.rootfs;
  return { ...config, rootfs };
}

/** JSON with sorted keys; absent and null are the same, as Go has it. */
function canonical(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).filter(([, v]) => v !== null).sort(([x], [y]) => (x < y ? -1 : 1)))
      : inner,
  );
}

/** A path that differs in a layer usually differs in the merged tree too: it is named once. */
class DifferenceReport {
  readonly #image: Digest;
  readonly #problems: ProblemList;
  readonly #named = new Set<string>();
  #lost = 0;

  constructor(image: Digest, problems: ProblemList) {
    this.#image = image;
    this.#problems = problems;
  }

  config(keys: readonly string[]): void {
    this.#problems.add({ code: 'DIFFERENT', message: `the image configs differ in ${keys.join(', ')}`, image: this.#image });
  }

  /** `whole`: a file system has no directories that are only implied. */
  all(where: string, differences: Iterable<Difference>, whole = false): void {
    const here = new Set<string>();
    for (const { path, kind, detail } of differences) {
      if (whole && kind === 'implied') continue;
      const key = `${kind} ${path}`;
      if (this.#named.has(key)) continue;
      here.add(key);
      if (kind === 'mtime-lost') this.#lost += 1;
      else this.#problems.add({ code: 'DIFFERENT', message: `${where}: ${kind}: ${detail}`, image: this.#image, path });
    }
    for (const key of here) this.#named.add(key);
  }

  finish(): void {
    if (this.#lost > 0) this.#problems.notes.add(`image ${this.#image}: ${this.#lost} times lost their fraction of a second`);
  }
}
