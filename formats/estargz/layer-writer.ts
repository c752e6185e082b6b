import { Digester, digestOf, type Digest } from '../../src/core/digest.ts';
import { corrupt, LazypullError } from '../../src/core/errors.ts';
import type { ConvertContext } from '../../src/core/format.ts';
import type { ByteStream, Sink } from '../../src/core/types.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';
import { encodeTarHeader, paddingOf } from '../../src/tar/write.ts';
import { encodeModtime, LANDMARK_CONTENT, type TocEntry, type TocType } from './layout.ts';
import { MemberWriter, type Placed } from './members.ts';
import type { EstargzOptions } from './options.ts';
import { TocWriter, type FinishedToc } from './toc-writer.ts';

/** Headers of entries without payload gather in the member before them; past this size they open a member of their own. */
const MAX_HEADERS = 1 << 18;
/** Bytes behind the last entry go into the last member, and from this many on into members of their own. */
const TRAILER_PIECE = 1 << 20;
const EMPTY_DIGEST = digestOf();
const EPOCH = { seconds: 0, nanoseconds: 0 };

const TOC_TYPES = {
  file: 'reg',
  directory: 'dir',
  symlink: 'symlink',
  hardlink: 'hardlink',
  char: 'char',
  block: 'block',
  fifo: 'fifo',
} as const satisfies Record<TarEntry['type'], TocType>;

/** A TOC record that waits for its turn, and for the place and digest of its payload. */
interface Pending {
  readonly record: TocEntry;
  readonly placed?: Placed;
  /** The digest of a file that has several chunks, once it is known. */
  readonly whole?: { digest: Digest | undefined };
}

/** What is known of a path that has been written. */
interface Known {
  /** Number of its TOC record. */
  readonly record: number;
  readonly directory: boolean;
  /** A hard link points to it. */
  linked: boolean;
}

/** Turns tar entries into gzip members and TOC records (format notes §2, §4-§6). */
export class LayerWriter {
  readonly #members: MemberWriter;
  readonly #toc: TocWriter;
  readonly #options: Required<EstargzOptions>;
  readonly #pending: Pending[] = [];
  readonly #known = new Map<string, Known>();
  readonly #dropped = new Set<number>();
  #records = 0;
  /** Header bytes behind the last payload. */
  #headers = 0;
  /** The next payload must not share a member with the one before. */
  #apart = true;
  /** Directories that so far only the names of others imply. */
  readonly #implied = new Set<string>();
  /** TOC entries, landmarks and chunk records not counted. */
  entries = 0;
  chunks = 0;

  constructor(sink: Sink, context: ConvertContext, options: Required<EstargzOptions>) {
    this.#options = options;
    this.#toc = new TocWriter(context.workers, options.level);
    this.#members = new MemberWriter(sink, context, options.level, () => this.#flush());
  }

  get tarSize(): number {
    return this.#members.tarSize;
  }

  get blobSize(): number {
    return this.#members.blobSize;
  }

  /** What a user should hear about the layer. */
  get warnings(): string[] {
    const [first] = this.#implied;
    if (first === undefined) return [];
    const which = this.#implied.size === 1 ? `directory ${JSON.stringify(first)} has` : `${this.#implied.size} directories, such as ${JSON.stringify(first)}, have`;
    return [`${which} no tar entry; in a lazy mount that means root's, mode 0755`];
  }

  /** Adds an entry with its payload, which is `entry.size` bytes in one piece or in many. */
  async add(entry: TarEntry, body: Uint8Array | ByteStream): Promise<void> {
    checkPath(entry);
    const record = tocRecord(entry);
    this.#note(entry);
    await this.#header(this.#options.keepDiffId ? entry.header : encodeTarHeader(entry));
    this.entries += 1;
    if (entry.type === 'file' && entry.size > 0) await this.#payload(record, entry.size, body, entry);
    else this.#queue({ record: entry.type === 'file' ? { ...record, digest: EMPTY_DIGEST } : record });
  }

  /** Adds a landmark: a file of one byte in a member of its own (§7.2). Like the reference writer's it has no modtime. */
  async landmark(name: string): Promise<void> {
    const size = LANDMARK_CONTENT.length;
    await this.#header(encodeTarHeader({ path: name, type: 'file', mode: 0, uid: 0, gid: 0, size, mtime: EPOCH }));
    this.#apart = true;
    await this.#payload({ name, type: 'reg', size }, size, LANDMARK_CONTENT, { path: name, offset: 0 });
    this.#apart = true;
  }

  /** Passes over what stands behind the last entry; a writer that keeps the tar copies it, in members of a fixed size. */
  async trailer(bytes: ByteStream): Promise<void> {
    let left = TRAILER_PIECE;
    for await (const part of bytes) {
      if (!this.#options.keepDiffId) continue;
      for (let at = 0; at < part.length; ) {
        if (left === 0) {
          left = TRAILER_PIECE;
          await this.#members.startMember(left);
        }
        const piece = part.subarray(at, at + left);
        await this.#members.append(piece);
        at += piece.length;
        left -= piece.length;
      }
    }
  }

  /** Writes out all members and ends the TOC. */
  async finish(): Promise<FinishedToc> {
    await this.#members.finish();
    await this.#flush();
    return this.#toc.finish(this.#dropped);
  }

  hashOnly(bytes: Uint8Array): void {
    this.#members.hashOnly(bytes);
  }

  diffId(): Digest {
    return this.#members.diffId();
  }

  /** Releases what a failed write holds. */
  async close(): Promise<void> {
    await this.#members.abandon();
  }

  async #header(bytes: Uint8Array): Promise<void> {
    if (this.#headers + bytes.length > MAX_HEADERS) {
      await this.#members.startMember(bytes.length);
      this.#headers = 0;
    }
    this.#headers += bytes.length;
    await this.#members.append(bytes);
  }

  async #payload(record: TocEntry, size: number, body: Uint8Array | ByteStream, place: { path: string; offset: number }): Promise<void> {
    const { chunkSize } = this.#options;
    const whole = size > chunkSize ? { digest: undefined as Digest | undefined } : undefined;
    const digester = whole && new Digester();
    let left = 0;
    let done = 0;
    for await (const bytes of body instanceof Uint8Array ? [body] : body) {
      digester?.update(bytes);
      for (let at = 0; at < bytes.length; ) {
        if (left === 0) {
          left = Math.min(chunkSize, size - done);
          if (left === 0) throw corrupt(`file is longer than the ${size} bytes of its header`, place);
          await this.#startChunk(record, done, left, whole);
        }
        const part = bytes.subarray(at, at + left);
        await this.#members.append(part);
        at += part.length;
        done += part.length;
        left -= part.length;
      }
    }
    if (done !== size) throw corrupt(`file ends early: ${size} bytes in its header, ${done} stored`, place);
    if (whole && digester) whole.digest = digester.finish();
    const padding = paddingOf(size);
    if (padding > 0) await this.#members.append(new Uint8Array(padding));
    this.#headers = 0;
  }

  async #startChunk(record: TocEntry, chunkOffset: number, length: number, whole: Pending['whole']): Promise<void> {
    if (this.#apart || this.#members.memberSize >= this.#options.minChunkSize) await this.#members.startMember(length + paddingOf(length));
    // The first payload never shares the member at blob offset 0: readers take an absent offset for none.
    this.#apart = false;
    this.chunks += 1;
    const placed = this.#members.place(length);
    // chunkSize is absent on a chunk that is shorter than all others: the last one (§6.1).
    const chunkSize = length === this.#options.chunkSize ? { chunkSize: length } : undefined;
    if (chunkOffset === 0) this.#queue({ record: { ...record, ...chunkSize }, placed, ...(whole && { whole }) });
    else this.#queue({ record: { name: record.name, type: 'chunk', chunkOffset, ...chunkSize }, placed });
  }

  /** Keeps track of paths: a path that comes again replaces the earlier one in the TOC, and a hard link needs its target. */
  #note(entry: TarEntry): void {
    const path = cleanPath(entry.path);
    const place = { path: entry.path, offset: entry.offset };
    if (entry.type === 'hardlink') {
      const target = this.#known.get(cleanPath(entry.linkName));
      if (!target) throw corrupt(`hard link to ${JSON.stringify(entry.linkName)}, which does not come before it in this layer`, place);
      if (target.directory) throw corrupt(`hard link to the directory ${JSON.stringify(entry.linkName)}`, place);
      target.linked = true;
    }
    const old = this.#known.get(path);
    if (old) {
      // The links' inode would change with the record they point to.
      if (old.linked) throw new LazypullError('UNSUPPORTED', 'an entry that hard links point to is replaced later in the layer', place);
      this.#dropped.add(old.record);
    }
    for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
      const parent = path.slice(0, slash);
      if (this.#known.has(parent) || this.#implied.has(parent)) break;
      this.#implied.add(parent);
    }
    this.#implied.delete(path);
    this.#known.set(path, { record: this.#records, directory: entry.type === 'directory', linked: false });
  }

  #queue(pending: Pending): void {
    this.#records += 1;
    this.#pending.push(pending);
  }

  /** Hands records whose payloads are placed to the TOC, in order. */
  async #flush(): Promise<void> {
    for (let next = this.#pending[0]; next; next = this.#pending[0]) {
      const { record, placed, whole } = next;
      if ((placed && placed.digest === undefined) || (whole && whole.digest === undefined)) return;
      this.#pending.shift();
      if (!placed) await this.#toc.add(record);
      else {
        const inner = placed.inner > 0 ? { innerOffset: placed.inner } : undefined;
        const digest = record.type === 'chunk' ? undefined : { digest: whole?.digest ?? placed.digest };
        await this.#toc.add({ ...record, offset: placed.offset, ...inner, ...digest, chunkDigest: placed.digest } as TocEntry);
      }
    }
  }
}

/** The part of an entry's record that its header tells. */
function tocRecord(entry: TarEntry): TocEntry {
  const modtime = encodeModtime(entry.mtime.seconds, entry.mtime.nanoseconds);
  if (modtime === undefined) throw new LazypullError('UNSUPPORTED', 'modification time outside the years 0 to 9999', { path: entry.path, offset: entry.offset });
  const record: TocEntry = { name: entry.path, type: TOC_TYPES[entry.type], modtime, mode: entry.rawMode, uid: entry.uid, gid: entry.gid };
  if (entry.type === 'file') record.size = entry.size;
  if (entry.linkName !== '') record.linkName = entry.linkName;
  if (entry.userName !== '') record.userName = entry.userName;
  if (entry.groupName !== '') record.groupName = entry.groupName;
  if (entry.type === 'char' || entry.type === 'block') Object.assign(record, { devMajor: entry.major, devMinor: entry.minor });
  if (entry.xattrs.size > 0) record.xattrs = Object.fromEntries([...entry.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('base64')]));
  return record;
}
