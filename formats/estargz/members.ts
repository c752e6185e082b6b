import { Digester, type Digest } from '../../src/core/digest.ts';
import type { ConvertContext, ResumePoint } from '../../src/core/format.ts';
import type { Sink } from '../../src/core/types.ts';
import { usesKnownMatches } from '../../src/codec/deflate.ts';
import { gzipHeader } from '../../src/codec/gzip.ts';
import { gzipMembers, type CompressedMembers, type MemberPlan } from '../../src/codec/gzip-members.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';

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
  /** Words that the log of known matches has about it. */
  known: number;
  readonly placed: Placed[];
}

interface Batch {
  readonly memory: MemberMemory;
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
  readonly #usesMatches: boolean;
  readonly #onPlaced: () => Promise<void>;
  readonly #tar = new Digester();
  #memory: MemberMemory | undefined;
  #members: Member[] = [];
  #queue: Batch[] = [];
  #draining: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #blobSize = 0;
  /** Plain bytes of the members written so far. */
  #written = 0;

  /** `onPlaced` is called each time some placed ranges have got their offsets and digests, in stream order. */
  constructor(sink: Sink, context: ConvertContext, level: number, onPlaced: () => Promise<void>) {
    this.#sink = sink;
    this.#context = context;
    this.#level = level;
    this.#usesMatches = usesKnownMatches(level);
    this.#onPlaced = onPlaced;
  }

  /** Bytes of plain tar appended so far. */
  get tarSize(): number {
    return this.#tar.size + (this.#memory?.used ?? 0);
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
    const { used, room } = this.#memory ?? { used: 0, room: 0 };
    if (used > 0 && used + expect > Math.min(BATCH, room)) await this.#submit();
    this.#members.push({ length: 0, known: 0, placed: [] });
    await this.#reserve(expect);
  }

  /** Marks the next `length` bytes as a payload whose place and digest are wanted. Call before appending them. */
  place(length: number): Placed {
    const member = this.#members.at(-1) as Member;
    const placed: Placed = { offset: 0, inner: member.length, length, digest: undefined };
    member.placed.push(placed);
    return placed;
  }

  /** Adds bytes to the open member. If they come straight from an inflater, the matches that it met there are used again. */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    const member = this.#members.at(-1) ?? this.#open();
    const memory = this.#memory && this.#memory.used + bytes.length <= this.#memory.room ? this.#memory : await this.#reserve(bytes.length);
    member.known += memory.append(bytes, member.length, this.#usesMatches);
    member.length += bytes.length;
  }

  /** Writes out everything; afterwards `diffId` may be asked for. */
  async finish(): Promise<void> {
    await this.#submit();
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
    this.#memory?.lease.release();
    this.#memory = undefined;
    await this.#draining?.catch(() => undefined);
  }

  #open(): Member {
    const member: Member = { length: 0, known: 0, placed: [] };
    this.#members.push(member);
    return member;
  }

  /** Sees to it that `bytes` more fit behind what the open batch holds. */
  async #reserve(bytes: number): Promise<MemberMemory> {
    const memory = this.#memory;
    if (memory && memory.used + bytes <= memory.room) return memory;
    if (!memory) return (this.#memory = await this.#lease(bytes));
    // The open member outgrows its memory: what came before it goes off on its own, and it moves to larger memory.
    const open = this.#members.pop() as Member;
    const kept = memory.takeBack(open.length, open.known);
    if (memory.used > 0) await this.#submit();
    else memory.lease.release();
    this.#memory = undefined;
    this.#memory = await this.#lease(Math.max(open.length + bytes, 2 * open.length));
    this.#memory.restore(kept);
    this.#members = [open];
    return this.#memory;
  }

  #lease(bytes: number): Promise<MemberMemory> {
    return MemberMemory.lease(this.#context.workers, bytes, this.#context.signal);
  }

  async #submit(): Promise<void> {
    const memory = this.#memory;
    const members = this.#members.filter((member) => member.length > 0);
    this.#members = [];
    this.#memory = undefined;
    if (!memory) return;
    if (members.length === 0) {
      memory.lease.release();
      return;
    }
    const plans: MemberPlan[] = members.map(({ length, known, placed }) => ({ length, known, hashes: placed.map(({ inner, length: size }) => ({ offset: inner, length: size })) }));
    // Before a thread gets hold of the memory: the result will take the place of these bytes.
    const { bytes } = memory;
    this.#tar.update(bytes);
    try {
      await this.#context.follower?.tar(bytes);
    } catch (error) {
      memory.lease.release();
      throw error;
    }
    const result = gzipMembers(this.#context.workers, memory, plans, this.#level);
    result.catch(() => undefined);
    this.#queue.push({ memory, members, result });
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
        batch.memory.lease.release();
      }
    }
    this.#draining = undefined;
  }

  async #write(batch: Batch, { bytes, lengths, digests }: CompressedMembers): Promise<void> {
    let digest = 0;
    let offset = this.#blobSize;
    batch.members.forEach((member, i) => {
      this.#context.follower?.point(memberStart(offset, this.#written));
      this.#written += member.length;
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

const NOTHING = new Uint8Array(0);
const GZIP_HEADER_SIZE = gzipHeader(6).length;

/** Where a member that begins at `offset` of the blob and `out` of the tar can be inflated from: behind its header. */
export function memberStart(offset: number, out: number): ResumePoint {
  return { bit: (offset + GZIP_HEADER_SIZE) * 8, out, member: true, window: () => NOTHING };
}
