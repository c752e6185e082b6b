import { roundUp } from '../core/bytes.ts';

// Three threads work at one stream: the one that reads hands over packed bytes and takes content (ring-reader.ts); one inflates and one
// looks at the content (ring-threads.ts). Everything goes through shared memory: a ring of packed bytes, slots of content with what is
// known about it, and words that say how far everyone is. A thread that has nothing to do sleeps until its bell is rung; the reader
// cannot sleep and has itself woken by a message, when it asks for that.

/** Packed bytes that can wait; a power of two. */
export const PACKED = 1 << 20;
/** Bytes of content in a slot: what an inflater gives out at a time, the window in front of it included, and a match behind it. */
const CONTENT = (1 << 20) + (1 << 15) + 1024;
/** Ends of members in a slot: a gunzip machine tells of half as many between two pieces of content. */
const ENDS = 2048;
/** Numbers for each of them. */
export const PER_END = 3;
/** Words of the log in a slot: a match is 3 bytes or more. What is not needed is never touched and takes no memory. */
const ENTRIES = Math.ceil(CONTENT / 3) + 5;
/** Bytes of content between two marks. */
export const MARK_STEP = 1 << 14;
/** Marks in a slot, two words each: see `SlotLog`. */
const MARKS = Math.ceil(CONTENT / MARK_STEP);
/** Slots: one that is being filled, one that is looked at, one that is read, and one for good measure. */
export const SLOTS = 4;

export const HEAD = 4096;
const ENDS_AT = CONTENT;
const ENTRIES_AT = ENDS_AT + ENDS * PER_END * 8;
const MARKS_AT = ENTRIES_AT + ENTRIES * 4;
const STRIDE = roundUp(MARKS_AT + MARKS * 8, 4096);
const SLOTS_AT = HEAD + PACKED;

/** Bytes of memory in all. */
export const RING_SIZE = SLOTS_AT + SLOTS * STRIDE;

/** Words that say how far everyone is; counts wrap around. */
export const PACKED_IN = 0;
export const PACKED_OUT = 1;
/** Slots that are filled, that were looked at, and that the reader is done with. */
export const FILLED = 2;
export const CHECKED = 3;
export const TAKEN = 4;
/** Whether more packed bytes come: a `SourceState`. */
export const SOURCE = 5;
/** Bells of the threads. */
export const INFLATING = 6;
export const CHECKING = 7;
/** What the reader wants to be woken for: room for packed bytes, a filled slot, a slot that was looked at. */
export const FOR_ROOM = 8;
export const FOR_CONTENT = 9;
export const FOR_CHECK = 10;
/** Slots up to and with the one that has the first bad trailer; 0 when there is none. Where that trailer stands is a double at `BAD_AT`. */
export const BAD = 11;
const BAD_AT = 16;
/** The digest: bytes. */
const DIGEST_AT = 128;
const DIGEST_SIZE = 32;
/** Of each slot: words from here on. */
const SLOT_WORDS = 64;
const PER_SLOT = 8;
export const LENGTH = 0;
export const MEMBER_ENDS = 1;
/** Words of the log; -1 when nothing is known of matches. */
export const KNOWN = 2;
export const END = 3;

/** Whether more packed bytes come, that was all, or they cannot be had; or nobody wants the content any more. */
export const SOURCE_STATE = { open: 0, ended: 1, failed: 2, left: 3 } as const;
export type SourceState = (typeof SOURCE_STATE)[keyof typeof SOURCE_STATE];

/** Whether a slot is followed by others, or is the last one: because all is well, packed bytes could not be had, or they are broken. */
export const SLOT_END = { none: 0, complete: 1, failed: 2, broken: 3 } as const;
export type SlotEnd = (typeof SLOT_END)[keyof typeof SLOT_END];

/** A slot that is filled. */
export interface ContentSlot {
  readonly bytes: Uint8Array;
  readonly end: SlotEnd;
  /** Undefined when nothing is known. */
  readonly log: SlotLog | undefined;
}

/** What is known of the matches in a slot. */
export interface SlotLog {
  /** As `Matches` has them. */
  readonly entries: Uint32Array;
  /** For every so many bytes: the first entry of a match that begins there or behind, and where its literals begin, from the start of the slot. */
  readonly marks: Int32Array;
}

/** Memory of a slot: what is counted by its words is in use. */
export interface SlotRoom extends SlotLog {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly ends: Float64Array;
}

/** What all three do. Of the memory's words, each is written by one of them only, bells and wishes apart. */
export class RingEnd {
  protected readonly memory: SharedArrayBuffer;
  protected readonly words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.words = new Int32Array(memory, 0, HEAD / 4);
  }

  protected count(word: number): number {
    return Atomics.load(this.words, word);
  }

  /** Bytes or slots that one is ahead of another. */
  protected ahead(word: number, of: number): number {
    return (this.count(word) - this.count(of)) >>> 0;
  }

  protected ring(bell: number): void {
    Atomics.add(this.words, bell, 1);
    Atomics.notify(this.words, bell);
  }

  /** All of a slot's memory, for the slot that comes after so many. */
  protected room(count: number): SlotRoom {
    const slot = (count >>> 0) % SLOTS;
    const at = SLOTS_AT + slot * STRIDE;
    return {
      words: this.words.subarray(SLOT_WORDS + slot * PER_SLOT, SLOT_WORDS + (slot + 1) * PER_SLOT),
      bytes: new Uint8Array(this.memory, at, CONTENT),
      ends: new Float64Array(this.memory, at + ENDS_AT, ENDS * PER_END),
      entries: new Uint32Array(this.memory, at + ENTRIES_AT, ENTRIES),
      marks: new Int32Array(this.memory, at + MARKS_AT, 2 * MARKS),
    };
  }

  protected slot(count: number): ContentSlot {
    const { words, bytes, entries, marks } = this.room(count);
    const known = words[KNOWN] as number;
    return {
      bytes: bytes.subarray(0, words[LENGTH]),
      end: words[END] as SlotEnd,
      log: known < 0 ? undefined : { entries: entries.subarray(0, known), marks },
    };
  }

  protected get bad(): Float64Array {
    return new Float64Array(this.memory, BAD_AT * 4, 1);
  }

  protected get digest(): Uint8Array {
    return new Uint8Array(this.memory, DIGEST_AT, DIGEST_SIZE);
  }
}
