import { Digester, type Digest } from '../../src/core/digest.ts';
import type { ConvertContext, Lease, Sink } from '../../src/core/types.ts';
import { gzipMembers, type CompressedMembers, type MemberPlan } from '../../src/codec/gzip-members.ts';

/** A payload range whose digest is wanted, and where it ended up. Filled in when its member is written. */
export interface Placed {
  /** Blob offset of the member. */
  offset: number;
  /** Uncompressed offset inside the member. */
  readonly inner: number;
  readonly length: number;
  digest: Digest | undefined;
}

interface Member {
  length: number;
  readonly placed: Placed[];
}

interface Batch {
  readonly lease: Lease;
  readonly members: readonly Member[];
  readonly result: Promise<CompressedMembers>;
}

/**
 * Members are gathered until a batch holds this much. Every batch wakes a thread, which on few cores is taken from the one
 * that reads: fewer and larger are faster, and a layer of any size to speak of still spreads over all threads.
 */
const BATCH = 4 << 20;

/**
 * Cuts a growing tar stream into gzip members, has them compressed by the worker pool and writes them in order. What is
 * appended is hashed as the layer's plain tar. Compression runs ahead of writing as far as the pool's budget of memory
 * allows; `append` waits when it is used up.
 */
export class MemberWriter {
  readonly #sink: Sink;
  readonly #context: ConvertContext;
  readonly #level: number;
  readonly #onPlaced: () => Promise<void>;
  readonly #tar = new Digester();
  #lease: Lease | undefined;
  #used = 0;
  #members: Member[] = [];
  #queue: Batch[] = [];
  #draining: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #blobSize = 0;

  /** `onPlaced` is called each time some placed ranges have got their offsets and digests, in stream order. */
  constructor(sink: Sink, context: ConvertContext, level: number, onPlaced: () => Promise<void>) {
    this.#sink = sink;
    this.#context = context;
    this.#level = level;
    this.#onPlaced = onPlaced;
  }

  /** Bytes of plain tar appended so far. */
  get tarSize(): number {
    return this.#tar.size + this.#used;
  }

  /** Compressed bytes handed to the sink so far. */
  get blobSize(): number {
    return this.#blobSize;
  }

  /** Uncompressed bytes in the member that is open. */
  get memberSize(): number {
    return this.#members.at(-1)?.length ?? 0;
  }

  /**
   * Ends the open member and begins the next. `expect` says how many bytes are about to come (a chunk and its padding), so
   * that they find a place in one piece of memory.
   */
  async startMember(expect: number): Promise<void> {
    if (this.memberSize === 0 && this.#members.length > 0) this.#members.pop();
    if (this.#used > 0 && this.#used + expect > BATCH) this.#submit();
    if (this.#lease && this.#used + expect > this.#lease.memory.byteLength) this.#submit();
    this.#members.push({ length: 0, placed: [] });
    await this.#reserve(expect);
  }

  /** Marks the next `length` bytes as a payload whose place and digest are wanted. Call before appending them. */
  place(length: number): Placed {
    const member = this.#members.at(-1) as Member;
    const placed: Placed = { offset: 0, inner: member.length, length, digest: undefined };
    member.placed.push(placed);
    return placed;
  }

  /** Adds bytes to the open member. */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    const member = this.#members.at(-1) ?? this.#open();
    if (!this.#lease || this.#used + bytes.length > this.#lease.memory.byteLength) await this.#reserve(bytes.length);
    new Uint8Array((this.#lease as Lease).memory).set(bytes, this.#used);
    this.#used += bytes.length;
    member.length += bytes.length;
  }

  /** Writes out everything; afterwards `diffId` may be asked for. */
  async finish(): Promise<void> {
    this.#submit();
    await this.#draining;
    if (this.#failure) throw this.#failure.error;
  }

  /** Adds bytes that are written by other means (the TOC) to the digest of the plain tar. */
  hashOnly(bytes: Uint8Array): void {
    this.#tar.update(bytes);
  }

  /** Digest of the plain tar. Only once. */
  diffId(): Digest {
    return this.#tar.finish();
  }

  /** Gives memory back after a failure. */
  async abandon(): Promise<void> {
    this.#failure ??= { error: undefined };
    this.#lease?.release();
    this.#lease = undefined;
    await this.#draining?.catch(() => undefined);
  }

  #open(): Member {
    const member: Member = { length: 0, placed: [] };
    this.#members.push(member);
    return member;
  }

  /** Sees to it that `bytes` more fit behind what the open batch holds. */
  async #reserve(bytes: number): Promise<void> {
    const lease = this.#lease;
    if (lease && this.#used + bytes <= lease.memory.byteLength) return;
    if (!lease) {
      this.#lease = await this.#context.workers.lease(bytes, this.#context.signal);
      return;
    }
    // The open member outgrows its memory: what came before it goes off on its own, and it moves to larger memory.
    const open = this.#members.pop() as Member;
    const kept = new Uint8Array(lease.memory, this.#used - open.length, open.length).slice();
    this.#used -= open.length;
    if (this.#used > 0) this.#submit();
    else lease.release();
    this.#lease = undefined;
    this.#lease = await this.#context.workers.lease(Math.max(kept.length + bytes, 2 * kept.length), this.#context.signal);
    new Uint8Array(this.#lease.memory).set(kept);
    this.#used = kept.length;
    this.#members = [open];
  }

  #submit(): void {
    const lease = this.#lease;
    const members = this.#members.filter((member) => member.length > 0);
    this.#members = [];
    this.#lease = undefined;
    if (!lease) return;
    const used = this.#used;
    this.#used = 0;
    if (members.length === 0) {
      lease.release();
      return;
    }
    const plans: MemberPlan[] = members.map(({ length, placed }) => ({ length, hashes: placed.map(({ inner, length: size }) => ({ offset: inner, length: size })) }));
    // Before a thread gets hold of the memory: the result will take the place of these bytes.
    this.#tar.update(new Uint8Array(lease.memory, 0, used));
    const result = gzipMembers(this.#context.workers, lease, plans, this.#level);
    result.catch(() => undefined);
    this.#queue.push({ lease, members, result });
    this.#draining ??= this.#drain();
  }

  async #drain(): Promise<void> {
    for (let batch = this.#queue.shift(); batch; batch = this.#queue.shift()) {
      try {
        if (!this.#failure) await this.#write(batch, await batch.result);
      } catch (error) {
        this.#failure ??= { error };
      } finally {
        await batch.result.catch(() => undefined);
        batch.lease.release();
      }
    }
    this.#draining = undefined;
  }

  async #write(batch: Batch, { bytes, lengths, digests }: CompressedMembers): Promise<void> {
    let digest = 0;
    let offset = this.#blobSize;
    batch.members.forEach((member, i) => {
      for (const placed of member.placed) {
        placed.offset = offset;
        placed.digest = digests[digest++];
      }
      offset += lengths[i] as number;
    });
    await this.#sink(bytes);
    this.#blobSize += bytes.length;
    await this.#onPlaced();
  }
}
