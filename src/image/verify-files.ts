import { Digester, type Digest } from '../core/digest.ts';
import { concat } from '../core/bytes.ts';
import type { Chunk, Extent, FileProof, OpenLayer, RegularNode } from '../core/types.ts';
import { walk } from '../layer/walk.ts';

/** Takes what is wrong; may throw to end the work. */
type Report = (error: unknown) => void;

/** Bytes of a file, or of what proves one, that are put together from chunks. */
interface Run {
  readonly extents: readonly Extent[];
  /** Extents that have gone by. */
  next: number;
  take(bytes: Uint8Array): void;
  end(): void | Promise<void>;
}

/**
 * Puts files together from chunks that come by one after another: contents that nothing but the tar vouches for, and what
 * formats want to be proven about files. Chunks have to come in the order of the files; what does not come so is left out.
 */
export class FilesInChunks {
  readonly #layer: OpenLayer;
  readonly #report: Report;
  readonly #runs = new Map<Chunk, Run[]>();
  readonly #unproven = new Set<RegularNode>();
  readonly #contents = new Map<RegularNode, Digest>();

  /** `all`: also of files that their chunks vouch for the contents are wanted. */
  constructor(layer: OpenLayer, report: Report, all = false) {
    this.#layer = layer;
    this.#report = report;
    const seen = new Set<RegularNode>();
    for (const { node } of walk(layer.index.root)) {
      if (node.type !== 'file' || seen.has(node)) continue;
      seen.add(node);
      this.#addProof(node);
      if (!all && (node.digest !== undefined || node.extents.every(isProof))) continue;
      this.#unproven.add(node);
      this.#addContent(node);
    }
  }

  /** Whether neither the file's own digest nor those of whole chunks tell that its content is right, or its content is wanted. */
  isUnproven(node: RegularNode): boolean {
    return this.#unproven.has(node);
  }

  /** Digest of the content of a file that is unproven or wanted, once all of it has come by in order. */
  contentOf(node: RegularNode): Digest | undefined {
    return this.#contents.get(node);
  }

  /** A chunk comes by. Lent bytes. */
  async feed(chunk: Chunk, bytes: Uint8Array): Promise<void> {
    const runs = this.#runs.get(chunk);
    if (!runs) return;
    this.#runs.delete(chunk);
    for (const run of runs) {
      for (let extent = run.extents[run.next]; extent?.chunk === chunk; extent = run.extents[run.next]) {
        run.take(bytes.subarray(extent.chunkOffset, extent.chunkOffset + extent.length));
        run.next += 1;
        if (run.next === run.extents.length) await run.end();
      }
    }
  }

  #addContent(node: RegularNode): void {
    let digester: Digester | undefined;
    this.#add({
      extents: node.extents,
      next: 0,
      // Not before it begins: there may be many files, and few are open at a time.
      take: (bytes) => (digester ??= new Digester()).update(bytes),
      end: () => void this.#contents.set(node, (digester as Digester).finish()),
    });
  }

  #addProof(node: RegularNode): void {
    let proof: FileProof | undefined;
    try {
      proof = this.#layer.proof?.(node);
    } catch (error) {
      this.#report(error);
    }
    if (!proof) return;
    const { extents, check } = proof;
    let parts: Uint8Array[] = [];
    this.#add({
      extents,
      next: 0,
      take: (bytes) => void parts.push(new Uint8Array(bytes)),
      end: async () => {
        const all = concat(parts);
        parts = [];
        await check(all).catch(this.#report);
      },
    });
  }

  #add(run: Run): void {
    let last: Chunk | undefined;
    for (const { chunk } of run.extents) {
      if (chunk === last) continue;
      last = chunk;
      const runs = this.#runs.get(chunk);
      if (runs) runs.push(run);
      else this.#runs.set(chunk, [run]);
    }
  }
}

/** Whether an extent is its whole chunk, so that the chunk's digest is the extent's. */
export function isWhole({ chunk, chunkOffset, length }: Extent): boolean {
  return chunkOffset === 0 && length === chunk.size;
}

/** Whether looking at its chunk alone tells if an extent is right. A digest of stored bytes says nothing of what they inflate to. */
function isProof(extent: Extent): boolean {
  return isWhole(extent) && extent.chunk.packedDigest === undefined;
}
