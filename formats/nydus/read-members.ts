import { digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ByteSource } from '../../src/core/types.ts';
import { unpackChunk } from '../../src/codec/unpack-chunk.ts';
import { decodeMemberHeader, decodeTocEntry, MAX_TOC_ENTRIES, MEMBER, MEMBER_HEADER_SIZE, TOC_ENTRY_SIZE, TOC_FLAG, type TocEntry } from './blob-layout.ts';

/** What is read of a blob's end to find its TOC. */
const TAIL = 4096;
/** Members of a blob; its own tools make five. */
const MAX_MEMBERS = 16;

/** A part of a blob. */
export interface Member {
  readonly name: string;
  readonly offset: number;
  /** Stored bytes. */
  readonly size: number;
  /** What the TOC says about it. */
  readonly entry?: TocEntry;
}

/** What a blob is made of, in stored order. */
export interface BlobMembers {
  /** None in a plain blob: its chunk data is followed by the context table, which only a bootstrap can find. */
  readonly members: readonly Member[];
  readonly toc?: { readonly entries: readonly TocEntry[]; readonly offset: number; readonly bytes: Uint8Array };
}

/** Reads the members of a blob from its end (§5, §6): one small read where there is a TOC, else one for each. */
export async function readMembers(source: ByteSource, what: string, signal?: AbortSignal): Promise<BlobMembers> {
  const length = Math.min(TAIL, source.size);
  if (length < MEMBER_HEADER_SIZE) return { members: [] };
  const tail = await source.read(source.size - length, length, signal);
  const last = decodeMemberHeader(tail.subarray(length - MEMBER_HEADER_SIZE), source.size - MEMBER_HEADER_SIZE);
  if (!last) return { members: [] };
  if (last.name === MEMBER.toc) return withToc(tail, last.size, source.size, what);
  const members: Member[] = [];
  for (let end = source.size; end >= MEMBER_HEADER_SIZE && members.length < MAX_MEMBERS; ) {
    const at = end - MEMBER_HEADER_SIZE;
    const header = end === source.size ? last : decodeMemberHeader(await source.read(at, MEMBER_HEADER_SIZE, signal), at);
    if (!header || header.size > at) throw corrupt(`${what}: member ${header ? `of ${header.size} bytes` : 'without a header'}`, { offset: at });
    end = at - header.size;
    members.unshift({ name: header.name, offset: end, size: header.size });
    if (header.name === MEMBER.data) break;
  }
  return { members };
}

function withToc(tail: Uint8Array, size: number, blobSize: number, what: string): BlobMembers {
  const offset = blobSize - MEMBER_HEADER_SIZE - size;
  if (size % TOC_ENTRY_SIZE !== 0 || size > MAX_TOC_ENTRIES * TOC_ENTRY_SIZE || size > tail.length - MEMBER_HEADER_SIZE) throw corrupt(`${what}: TOC of ${size} bytes`, { offset: blobSize - MEMBER_HEADER_SIZE });
  const bytes = Uint8Array.from(tail.subarray(tail.length - MEMBER_HEADER_SIZE - size));
  const entries: TocEntry[] = [];
  for (let at = 0; at < size; at += TOC_ENTRY_SIZE) entries.push(decodeTocEntry(bytes.subarray(at, at + TOC_ENTRY_SIZE), offset + at));
  const members = entries.map((entry): Member => {
    // What the chunk data's entry says of its place differs from one writer to the next.
    const start = entry.name === MEMBER.data ? 0 : entry.offset;
    if (start + entry.compressedSize > offset) throw corrupt(`${what}: ${entry.name} of ${entry.compressedSize} bytes at ${start} reaches into the TOC`, { offset });
    return { name: entry.name, offset: start, size: entry.compressedSize, entry };
  });
  return { members, toc: { entries, offset, bytes } };
}

/** A TOC whose digest is known: 32 bytes, sha256 of its entries and header. Zeros are no digest. */
export function checkToc({ toc }: BlobMembers, digest: Uint8Array, what: string): void {
  if (!toc || digest.every((byte) => byte === 0)) return;
  const [got, wanted] = [digestOf(toc.bytes), `sha256:${Buffer.from(digest).toString('hex')}`];
  if (got !== wanted) throw new LazypullError('DIGEST_MISMATCH', `${what}: the TOC has digest ${got}, the bootstrap says ${wanted}`, { offset: toc.offset });
}

/** Content of a member, inflated and held against the TOC's digest. LIMIT above `limit` bytes. */
export async function readMember(source: ByteSource, member: Member, limit: number, what: string, signal?: AbortSignal): Promise<Uint8Array> {
  const { name, offset, size, entry } = member;
  const inflated = entry?.uncompressedSize ?? size;
  if (size > limit || inflated > limit) throw new LazypullError('LIMIT', `${what}: ${name} of ${Math.max(size, inflated)} bytes is above the ${limit} allowed`, { offset });
  const stored = await source.read(offset, size, signal);
  if (!entry) return stored;
  const compressor = entry.flags === TOC_FLAG.none ? 'none' : entry.flags === TOC_FLAG.zstd ? 'zstd' : entry.flags === TOC_FLAG.lz4 ? 'lz4' : undefined;
  if (!compressor) throw corrupt(`${what}: ${name} is compressed by 0x${entry.flags.toString(16)}`, { offset });
  const content = await unpackChunk(compressor, stored, inflated, `${what}: ${name}`);
  checkMember(content, member, what);
  return content;
}

/** DIGEST_MISMATCH unless a member's content is what the TOC says. */
export function checkMember(content: Uint8Array, { name, offset, entry }: Member, what: string): void {
  if (!entry) return;
  const [got, wanted] = [digestOf(content), `sha256:${Buffer.from(entry.digest).toString('hex')}`];
  if (got !== wanted) throw new LazypullError('DIGEST_MISMATCH', `${what}: ${name} has digest ${got}, the TOC says ${wanted}`, { offset });
}
