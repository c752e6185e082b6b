import { corrupt } from '../../src/core/errors.ts';
import { isDigest, parseDigest } from '../../src/core/digest.ts';
import type { Attributes, Chunk, DirectoryNode, Extent, LayerIndex } from '../../src/core/types.ts';
import { NO_XATTRS } from '../../src/layer/nodes.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { decodeModtime, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, RESERVED_NAMES, type TocEntry } from './layout.ts';

/** Before 1970 is what a reader of the reference implementation makes of an absent modtime: Go's zero time. */
const NO_TIME = { seconds: -62_135_596_800, nanoseconds: 0 };

interface Payload {
  readonly name: string;
  /** How far its stored range reaches is known when all of them are. */
  readonly chunk: { -readonly [K in keyof Chunk]: Chunk[K] };
}

/** What a TOC says. */
export interface TocTree {
  readonly index: LayerIndex;
  /** The landmark that a reader goes by (§7.2), if the layer has one. */
  readonly landmark: string | undefined;
}

/**
 * TOC records -> the layer's tree and chunks (§4, §6.2, §16). `end` is where payloads end in the blob: the TOC or the footer.
 * Everything a stranger may have put in is held against it before it is used.
 */
export function buildIndex(entries: readonly TocEntry[], end: number): TocTree {
  const tree = new TreeBuilder();
  const payloads: Payload[] = [];
  const users = new Map<number, string>();
  const groups = new Map<number, string>();
  let prefetchEnd: number | undefined;
  let prefetchNone = false;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as TocEntry;
    if (entry.type === 'chunk') throw corrupt('TOC has a chunk record that follows no file', { path: entry.name });
    const attributes = attributesOf(entry, users, groups);
    const path = pathOf(entry);
    if (entry.type !== 'reg') {
      addSpecial(tree, path, entry, attributes);
      continue;
    }
    const chunks: TocEntry[] = [entry];
    for (let next = entries[i + 1]; next?.type === 'chunk'; next = entries[i + 1]) {
      chunks.push(next);
      i += 1;
    }
    const extents: Extent[] = [];
    const size = entry.size ?? 0;
    if (size > 0) for (const payload of payloadsOf(entry, chunks, size, extents)) payloads.push(payload);
    if (path === PREFETCH_LANDMARK) prefetchEnd = entry.offset ?? 0;
    if (path === NO_PREFETCH_LANDMARK) prefetchNone = true;
    if (RESERVED_NAMES.includes(path)) continue;
    const digest = entry.digest === undefined ? undefined : parseDigest(entry.digest, `digest of ${entry.name}`);
    tree.add(path, tree.make.file(attributes, size, extents, digest));
  }
  const chunks = placeChunks(payloads, end);
  const root: DirectoryNode = tree.finish();
  if (prefetchNone) return { index: { root, chunks }, landmark: NO_PREFETCH_LANDMARK };
  if (prefetchEnd === undefined) return { index: { root, chunks }, landmark: undefined };
  if (prefetchEnd > end) throw corrupt('prefetch landmark lies outside the blob', { path: PREFETCH_LANDMARK, offset: prefetchEnd });
  return { index: { root, chunks, prefetch: [{ offset: 0, end: prefetchEnd }] }, landmark: PREFETCH_LANDMARK };
}

function pathOf(entry: TocEntry): string {
  const path = cleanPath(entry.name);
  let depth = 0;
  for (const component of entry.name.split('/')) {
    if (component === '' || component === '.') continue;
    depth += component === '..' ? -1 : 1;
    if (depth < 0) throw corrupt('TOC entry climbs above the root of the layer', { path: entry.name });
  }
  return path;
}

function attributesOf(entry: TocEntry, users: Map<number, string>, groups: Map<number, string>): Attributes {
  const uid = entry.uid ?? 0;
  const gid = entry.gid ?? 0;
  if (entry.userName !== undefined) users.set(uid, entry.userName);
  if (entry.groupName !== undefined) groups.set(gid, entry.groupName);
  const userName = users.get(uid);
  const groupName = groups.get(gid);
  return {
    mode: (entry.mode ?? 0) % 0o10000,
    uid,
    gid,
    mtime: entry.modtime === undefined ? NO_TIME : decodeModtime(entry.modtime, entry.name),
    xattrs: xattrsOf(entry),
    ...(userName !== undefined && { userName }),
    ...(groupName !== undefined && { groupName }),
  };
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function xattrsOf(entry: TocEntry): ReadonlyMap<string, Uint8Array> {
  if (entry.xattrs === undefined) return NO_XATTRS;
  const xattrs = new Map<string, Uint8Array>();
  for (const [name, value] of Object.entries(entry.xattrs)) {
    if (!BASE64.test(value)) throw corrupt(`xattr ${JSON.stringify(name)} is not base64`, { path: entry.name });
    xattrs.set(name, Buffer.from(value, 'base64'));
  }
  return xattrs;
}

function addSpecial(tree: TreeBuilder, path: string, entry: TocEntry, attributes: Attributes): void {
  switch (entry.type) {
    case 'dir':
      tree.add(path, { type: 'directory', ...attributes });
      break;
    case 'symlink':
      tree.add(path, tree.make.symlink(attributes, entry.linkName ?? ''));
      break;
    case 'hardlink':
      tree.link(path, cleanPath(entry.linkName ?? ''));
      break;
    case 'fifo':
      tree.add(path, tree.make.fifo(attributes));
      break;
    case 'char':
    case 'block':
      tree.add(path, tree.make.device(attributes, entry.type, entry.devMajor ?? 0, entry.devMinor ?? 0));
  }
}

/** The chunks of one file, in order, without gaps, and all of it (§6.1, §6.2). */
function payloadsOf(file: TocEntry, chunks: readonly TocEntry[], size: number, extents: Extent[]): Payload[] {
  let at = 0;
  const payloads = chunks.map((chunk, i): Payload => {
    const fileOffset = chunk.chunkOffset ?? 0;
    if (fileOffset !== at) throw corrupt(`chunk starts at byte ${fileOffset} of the file instead of ${at}`, { path: file.name });
    // Absent or 0: up to the end of the file, or up to the next chunk where one follows.
    const next = chunks[i + 1]?.chunkOffset;
    const length = chunk.chunkSize || (next ?? size) - fileOffset;
    if (length <= 0 || fileOffset + length > size) throw corrupt(`chunk of ${length} bytes at ${fileOffset} does not fit the file's ${size} bytes`, { path: file.name });
    at += length;
    const text = chunk.chunkDigest ?? (chunks.length === 1 ? file.digest : undefined);
    if (text !== undefined && !isDigest(text)) throw corrupt(`chunk digest is not a digest: ${JSON.stringify(text.slice(0, 140))}`, { path: file.name });
    const offset = chunk.offset ?? 0;
    const made: Payload['chunk'] = text === undefined ? { blob: 0, offset, length: 0, size: length } : { blob: 0, offset, length: 0, size: length, digest: text };
    if (chunk.innerOffset !== undefined && chunk.innerOffset > 0) made.skip = chunk.innerOffset;
    extents.push({ fileOffset, length, chunk: made, chunkOffset: 0 });
    return { name: file.name, chunk: made };
  });
  if (at !== size) throw corrupt(`chunks hold ${at} bytes of the file's ${size}`, { path: file.name });
  return payloads;
}

/** Gives each payload its stored range: from its member up to the next one, or to where payloads end. */
function placeChunks(payloads: readonly Payload[], end: number): Chunk[] {
  const starts = [...new Set(payloads.map(({ chunk }) => chunk.offset))].sort((a, b) => a - b);
  const next = new Map(starts.map((start, i) => [start, starts[i + 1] ?? end]));
  for (const { name, chunk } of payloads) {
    const { offset } = chunk;
    chunk.length = (next.get(offset) as number) - offset;
    if (chunk.length <= 0) throw corrupt('payload lies outside the blob', { path: name, offset });
  }
  return payloads.map(({ chunk }) => chunk).sort((a, b) => a.offset - b.offset || (a.skip ?? 0) - (b.skip ?? 0));
}
