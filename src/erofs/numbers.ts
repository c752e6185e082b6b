import type { FileNode } from '../core/types.ts';

/** Places that are looked at for one node. Where so many others have equal attributes (of files, but never of hard links), a map takes over. */
const MAX_PROBES = 16;

/**
 * Which number a node has: how hard links are told, which are one object under several names. A map from objects would take
 * 60 bytes for each of a million nodes of which hardly any is a link; here it is 8, by a hash of what the node says.
 */
export class NodeNumbers {
  readonly #nodes: readonly FileNode[];
  /** Number + 1; 0 is free. */
  readonly #slots: Uint32Array;
  /** Nodes that found no free place near theirs. */
  readonly #others = new Map<FileNode, number>();

  /** `nodes` by number; they grow while this is used, to `most` at the most. */
  constructor(nodes: readonly FileNode[], most: number) {
    this.#nodes = nodes;
    this.#slots = new Uint32Array(2 * most + 1);
  }

  find(node: FileNode): number | undefined {
    const { length } = this.#slots;
    for (let probe = 0, slot = hashOf(node) % length; probe < MAX_PROBES; probe += 1, slot = (slot + 1) % length) {
      const number = this.#slots[slot] as number;
      if (number === 0) return undefined;
      if (this.#nodes[number - 1] === node) return number - 1;
    }
    return this.#others.get(node);
  }

  /** The node must not be known yet. */
  add(node: FileNode, number: number): void {
    const { length } = this.#slots;
    for (let probe = 0, slot = hashOf(node) % length; probe < MAX_PROBES; probe += 1, slot = (slot + 1) % length) {
      if (this.#slots[slot] !== 0) continue;
      this.#slots[slot] = number + 1;
      return;
    }
    this.#others.set(node, number);
  }
}

/** Of what distinguishes nodes at no cost; 31 bits. */
function hashOf(node: FileNode): number {
  let hash = mix(mix(mix(0, node.mtime.seconds), node.mtime.nanoseconds), node.uid);
  if (node.type === 'file') {
    const first = node.extents[0];
    hash = mix(hash, node.size);
    if (first) hash = mix(mix(hash, first.chunk.offset), first.chunkOffset);
  } else if (node.type === 'symlink') {
    const { target } = node;
    for (let i = Math.max(0, target.length - 16); i < target.length; i += 1) hash = mix(hash, target.charCodeAt(i));
  }
  return hash >>> 1;
}

/** The multiplier is 2^32 over the golden ratio. Above 2^32 only low bits of the value count. */
function mix(hash: number, value: number): number {
  const mixed = Math.imul(hash ^ value, 0x9e37_79b1);
  return mixed ^ (mixed >>> 15);
}
