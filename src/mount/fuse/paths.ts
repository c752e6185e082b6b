import { decodeName } from '../../core/bytes.ts';
import { walkView, type ErofsView } from '../../erofs/view.ts';
import { nidOfNode } from './tree.ts';

/** Names of an image that are remembered: 16 bytes for each. */
const LIMIT = 1 << 20;

/** Tells by which path a file can be found: EROFS knows the way down only. Built by a walk over all names. */
export class PathIndex {
  readonly #view: ErofsView;
  /** nid and number of its directory in `#directories`, packed so that sorting is by nid. */
  readonly #links: BigUint64Array;
  readonly #directories: number[] = [];

  constructor(view: ErofsView) {
    this.#view = view;
    const links: bigint[] = [];
    try {
      walkView(view, (parent, nid) => {
        if (this.#directories.at(-1) !== parent) this.#directories.push(parent);
        links.push((BigInt(Math.min(nid, 2 ** 32 - 1)) << 32n) | BigInt(this.#directories.length - 1));
        return true;
      }, LIMIT);
    } catch {
      // Bad metadata behind here: what was found so far has to do.
    }
    this.#links = BigUint64Array.from(links).sort();
  }

  /** The same for the id that the kernel knows a file by. */
  pathOfNode(node: number): string | undefined {
    return this.pathOf(nidOfNode(node, this.#view));
  }

  /** The first path of a file, without a slash in front; undefined when it has none that is known. */
  pathOf(nid: number): string | undefined {
    const parts: string[] = [];
    for (let at = nid; at !== this.#view.rootNid; ) {
      const parent = this.#parentOf(at);
      const name = parent === undefined ? undefined : this.#nameIn(parent, at);
      if (parent === undefined || name === undefined || parts.length > 4096) return undefined;
      parts.unshift(name);
      at = parent;
    }
    return parts.join('/');
  }

  #parentOf(nid: number): number | undefined {
    const wanted = BigInt(nid) << 32n;
    let low = 0;
    let high = this.#links.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#links[middle] as bigint) < wanted) low = middle + 1;
      else high = middle;
    }
    const link = this.#links[low];
    return link !== undefined && link >> 32n === BigInt(nid) ? this.#directories[Number(link & 0xffff_ffffn)] : undefined;
  }

  #nameIn(directory: number, wanted: number): string | undefined {
    let name: string | undefined;
    this.#view.entries(directory, 0, (nid, _, start, end) => {
      if (nid === wanted) name = decodeName(this.#view.bytes.subarray(start, end));
      return nid !== wanted;
    });
    return name;
  }
}
