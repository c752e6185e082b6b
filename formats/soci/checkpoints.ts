import { LazypullError } from '../../src/core/errors.ts';
import type { ResumePoint } from '../../src/core/format.ts';
import { NO_WINDOW, WINDOW_SIZE, type Checkpoint } from './layout.ts';
import { SpanChain } from './span-chain.ts';
import type { FoundSpans, SpanFinder } from './spans.ts';

/** Up to this many gzip members each get a checkpoint of their own. */
export const MEMBER_LIMIT = 64;
/** Windows are kept until the end: 1 GiB of them. A FlatBuffer cannot hold much more either. */
const CHECKPOINT_LIMIT = 32_768;

export interface CheckpointOptions {
  readonly spanSize: number;
  /** No more checkpoints than the soci CLI has. */
  readonly upstreamCheckpoints: boolean;
}

/**
 * Chooses checkpoints among the places where inflating can begin (notes §3.2, §8). The rule is that of the soci CLI, and
 * what its reader refuses is left out: empty spans, and checkpoints behind the end of the tar. Besides, every member of
 * a layer that has few of them gets a checkpoint, for readers that cannot get from one member into the next (§3.4).
 */
export class Checkpoints implements SpanFinder {
  readonly #options: CheckpointOptions;
  readonly #limit: number;
  /** By the rule. */
  #chain = new SpanChain();
  /** With the members as well, from the second member on and while they are few. */
  #withMembers: SpanChain | undefined;
  #members = 0;
  /** Members whose start is no checkpoint of `#chain`. */
  #crossed = 0;
  /** The tar goes on at least to here. */
  #known = 0;
  /** Output is known to have come to here. */
  #seen = 0;
  /** Where the tar ends. */
  #end = Number.POSITIVE_INFINITY;
  refused: string | undefined;

  /** `limit`: checkpoints that are kept before the layer is refused. */
  constructor(options: CheckpointOptions, limit = CHECKPOINT_LIMIT) {
    this.#options = options;
    this.#limit = limit;
  }

  point(point: ResumePoint): void {
    if (this.refused !== undefined) return;
    this.#seen = Math.max(this.#seen, point.out);
    if (point.member) this.#member();
    const behind = this.#chain.last === undefined ? -1 : point.out - this.#end;
    const plain = behind <= 0 && this.#wanted(this.#chain, point, false);
    const withMembers = behind < 0 && this.#withMembers !== undefined && this.#wanted(this.#withMembers, point, point.member);
    if (point.member && !plain && point.out > 0 && behind < 0) this.#crossed += 1;
    if (!plain && !withMembers) return;
    const checkpoint = checkpointAt(point);
    if (withMembers) this.#withMembers?.add(checkpoint);
    if (plain) this.#chain.add(checkpoint);
    if ((this.#withMembers?.checkpoints.length ?? 0) > this.#limit) this.#withMembers = undefined;
    if (this.#chain.checkpoints.length > this.#limit) this.#refuse(`it needs more than ${this.#limit} checkpoints of 32 KiB; a larger --span-size needs fewer`);
  }

  packed(bytes: Uint8Array): void {
    if (this.refused !== undefined) return;
    const settled = Math.min(this.#known, this.#seen);
    if (this.#withMembers && !this.#withMembers.packed(bytes, settled)) this.#withMembers = undefined;
    if (!this.#chain.packed(bytes, settled)) this.#refuse('megabytes of its gzip stream hold no content');
  }

  reaches(tar: number, seen: number): void {
    this.#known = Math.max(this.#known, tar);
    this.#seen = Math.max(this.#seen, seen);
  }

  ends(tar: number): void {
    this.#end = tar;
    this.#known = Number.POSITIVE_INFINITY;
    // One at the very end (many compressors close with an empty block) is harmless, and the soci CLI has it.
    this.#chain.cut(tar + 1);
    this.#withMembers?.cut(tar);
  }

  finish(): FoundSpans {
    const chain = this.#withMembers ?? this.#chain;
    const packedSize = chain.finish();
    if (chain.checkpoints.length === 0) throw new LazypullError('INTERNAL', 'a gzip layer has no place where inflating can begin');
    return {
      spans: { algorithm: 'gzip', spanSize: this.#options.spanSize, checkpoints: chain.checkpoints },
      digests: chain.digests,
      packedSize,
      warnings: chain === this.#chain && this.#crossed > 0 ? [`its ${this.#members} gzip members do not all begin a span: soci-snapshotter before 0.14 reads zeros there`] : [],
    };
  }

  #member(): void {
    this.#members += 1;
    if (this.#members > MEMBER_LIMIT) this.#withMembers = undefined;
    else if (this.#members === 2 && !this.#options.upstreamCheckpoints) this.#withMembers = this.#chain.fork();
  }

  /** Points without output in front replace one another: the last one stays, so that the first span is not empty. */
  #wanted(chain: SpanChain, point: ResumePoint, member: boolean): boolean {
    const { last } = chain;
    return last === undefined || point.out === 0 || point.out - last > this.#options.spanSize || member;
  }

  #refuse(reason: string): void {
    this.refused = reason;
    this.#chain = new SpanChain();
    this.#withMembers = undefined;
  }
}

function checkpointAt(point: ResumePoint): Checkpoint {
  const start = Math.ceil(point.bit / 8);
  // Nothing is in front of the first tar byte, and strangers can have millions of points there.
  if (point.out === 0) return { in: start, out: 0, bits: start * 8 - point.bit, window: NO_WINDOW };
  const window = new Uint8Array(WINDOW_SIZE);
  const before = point.window();
  window.set(before.subarray(Math.max(0, before.length - WINDOW_SIZE)), Math.max(0, WINDOW_SIZE - before.length));
  return { in: start, out: point.out, bits: start * 8 - point.bit, window };
}
