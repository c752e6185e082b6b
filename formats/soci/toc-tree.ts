import { roundUp } from '../../src/core/bytes.ts';
import { corrupt } from '../../src/core/errors.ts';
import type { Attributes, LayerIndex, RegularNode, Time } from '../../src/core/types.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import type { TarType } from '../../src/tar/entry.ts';
import { TAR_BLOCK } from '../../src/tar/layout.ts';
import { ID_LIMIT } from '../../src/tar/pax.ts';
import type { RecordType, SpanRange, Ztoc, ZtocRecord } from './layout.ts';
import { decodeModTime } from './mod-time.ts';
import { SpanChunks } from './span-chunks.ts';
import { addEntry } from './tree-entry.ts';
import { spanRanges } from './zinfo.ts';

/** Where the tar has a file, and what the zTOC says about it. */
export interface FileRecord {
  readonly record: ZtocRecord;
  /** Its first header block: where the entry before it ends. The header reaches up to `record.offset`. */
  readonly headerStart: number;
}

/** What a zTOC says. */
export interface ZtocTree {
  readonly index: LayerIndex;
  readonly spans: SpanChunks;
  readonly files: ReadonlyMap<RegularNode, FileRecord>;
  /** What makes a snapshotter refuse the zTOC, or read other things than we do; one line each. */
  readonly problems: readonly string[];
}

const TYPES: Readonly<Record<RecordType, TarType>> = { reg: 'file', hardlink: 'hardlink', symlink: 'symlink', char: 'char', block: 'block', dir: 'directory', fifo: 'fifo' };
const XATTR_PREFIX = 'SCHILY.xattr.';
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** The layer's tree and chunks, chunk i being span i. */
export function buildIndex(ztoc: Ztoc, what: string): LayerIndex {
  return buildTree(ztoc, what).index;
}

/**
 * zTOC -> the layer's tree, its chunks and where the headers are (notes §2, §6.1, §6.3 rule 5). Everything a stranger may
 * have put in is held against the zTOC's own sizes before it is used. `what` names the zTOC in messages.
 */
export function buildTree(ztoc: Ztoc, what: string): ZtocTree {
  const spans = spanRanges(ztoc);
  const map = new SpanChunks(spans, ztoc.spanDigests, ztoc, what);
  const tree = new TreeBuilder();
  const files = new Map<RegularNode, FileRecord>();
  const times = new Times();
  const problems = new Set<string>();
  let headerStart = 0;
  /** The same as the reference implementation works it out: it lets links have sizes. */
  let theirStart = 0;
  for (const record of inTarOrder(ztoc.records)) {
    const { name, offset, size, type } = record;
    if (!isCount(offset) || !isCount(size)) throw corrupt(`${what} has a record of ${size} bytes at ${offset}`, { path: name });
    // Records tile the tar: between two of them there is nothing but padding, and at least one header block.
    if (offset - headerStart < TAR_BLOCK) throw corrupt(`${what} has content at byte ${offset} of the tar, and no room for its header behind byte ${headerStart}`, { path: name });
    if (offset > ztoc.tarSize) throw corrupt(`${what} has content at byte ${offset} of a tar of ${ztoc.tarSize} bytes`, { path: name });
    if (theirStart > offset) problems.add('records overlap when the sizes of links count: a snapshotter refuses the zTOC');
    const extents = type === 'reg' ? extentsOf(map, record, what) : [];
    if (type === 'char' || type === 'block') checkDevice(record, what);
    const { linkName, major, minor } = record;
    const node = addEntry(tree, { path: name, type: TYPES[type], linkName, major, minor, offset }, attributesOf(record, times), { size, extents });
    if (node) files.set(node, { record: slimmed(record), headerStart });
    theirStart = roundUp(offset + size, TAR_BLOCK);
    headerStart = type === 'reg' ? theirStart : roundUp(offset, TAR_BLOCK);
  }
  otherProblems(ztoc, spans, problems);
  return { index: { root: tree.finish(), chunks: map.chunks }, spans: map, files, problems: [...problems] };
}

/** Of the pax records only the xattrs are held against the header: the others would be kept for as long as the layer is open. */
function slimmed(record: ZtocRecord): ZtocRecord {
  for (const key of record.pax.keys()) {
    if (!key.startsWith(XATTR_PREFIX)) return { ...record, pax: xattrRecords(record) };
  }
  return record;
}

function xattrRecords({ pax }: ZtocRecord): ZtocRecord['pax'] {
  const own = [...pax].filter(([key]) => key.startsWith(XATTR_PREFIX));
  return own.length === 0 ? NO_XATTRS : new Map(own);
}

/** The reference implementation sorts too, so an order of records that is no order of the tar is no error. */
function inTarOrder(records: readonly ZtocRecord[]): readonly ZtocRecord[] {
  for (let i = 1; i < records.length; i++) {
    if ((records[i - 1] as ZtocRecord).offset > (records[i] as ZtocRecord).offset) return [...records].sort((a, b) => a.offset - b.offset);
  }
  return records;
}

function extentsOf(spans: SpanChunks, { name, offset, size }: ZtocRecord, what: string): RegularNode['extents'] {
  const end = offset + size;
  if (!Number.isSafeInteger(end)) throw corrupt(`${what} has a file of ${size} bytes at ${offset}`, { path: name });
  try {
    return spans.extents(offset, end);
  } catch (cause) {
    throw corrupt(`${what} has a file of ${size} bytes at byte ${offset} of the tar, where its spans do not reach`, { path: name, cause });
  }
}

function attributesOf(record: ZtocRecord, times: Times): Attributes {
  const { uid, gid, userName, groupName } = record;
  // The type is in `type`, whatever the mode says.
  const mode = record.mode % 0o10000;
  return { mode, uid, gid, mtime: times.decode(record), xattrs: xattrsOf(record), userName, groupName };
}

/** The xattrs among the pax records (notes §2.5). */
export function xattrsOf({ pax }: ZtocRecord): ReadonlyMap<string, Uint8Array> {
  let xattrs: Map<string, Uint8Array> | undefined;
  for (const [key, value] of pax) if (key.startsWith(XATTR_PREFIX)) (xattrs ??= new Map()).set(key.slice(XATTR_PREFIX.length), value);
  return xattrs ?? NO_XATTRS;
}

function checkDevice({ name, major, minor }: ZtocRecord, what: string): void {
  for (const number of [major, minor]) if (!isCount(number) || number > ID_LIMIT) throw corrupt(`${what} has a device number ${number}`, { path: name });
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** Neighbours in an archive often have one time, and it need not be parsed for each. */
class Times {
  #text = '';
  #time: Time = decodeModTime('', '');

  decode({ modTime, name }: ZtocRecord): Time {
    if (modTime !== this.#text) {
      this.#time = decodeModTime(modTime, name);
      this.#text = modTime;
    }
    return this.#time;
  }
}

/** What the snapshotter minds in a zTOC that can be read all the same. */
function otherProblems({ spans: info, records }: Ztoc, spans: readonly SpanRange[], problems: Set<string>): void {
  if (info.algorithm === 'gzip' && (spans[0]?.packedStart ?? 0) < MIN_GZIP_HEADER) problems.add('the first span leaves no room for a gzip header: a snapshotter refuses the zTOC');
  const timeless = records.find(({ type, modTime }) => type === 'reg' && modTime === '');
  if (timeless) problems.add(`${JSON.stringify(timeless.name)} has no modification time: a snapshotter refuses to read the file`);
}

const MIN_GZIP_HEADER = 10;
