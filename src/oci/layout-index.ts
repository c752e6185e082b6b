import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { corrupt, LazypullError, wrapError } from '../core/errors.ts';
import type { Descriptor } from '../core/types.ts';
import { encodeDocument, MANIFEST_LIMIT, parseDescriptor, parseObject } from './documents.ts';
import { isAbsent, replaceFile } from './layout-blobs.ts';
import { withLock } from './layout-lock.ts';
import { OCI } from './media-types.ts';

/** image-spec 1.1 annotations.md: the tag of an entry. */
export const REF_NAME = 'org.opencontainers.image.ref.name';
/** containerd's full reference of an entry, `docker.io/library/app:1`. */
export const CONTAINERD_NAME = 'io.containerd.image.name';

/** An element of `manifests`, with the fields that we do not know. */
export interface IndexEntry {
  /** As it stands in the file. */
  readonly raw: unknown;
  /** Absent when the entry is not a descriptor we understand; such entries are carried along. */
  readonly descriptor: Descriptor | undefined;
  /** `org.opencontainers.image.ref.name`. */
  readonly name: string | undefined;
  /** `io.containerd.image.name`. */
  readonly fullName: string | undefined;
}

interface Parsed {
  readonly document: Readonly<Record<string, unknown>>;
  readonly entries: readonly IndexEntry[];
}

/** `index.json` and `oci-layout` of a layout folder (image-spec 1.1, image-layout.md). */
export class LayoutIndex {
  readonly #folder: string;
  #cached: { readonly key: string; readonly parsed: Parsed } | undefined;
  #created: Promise<void> | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get #path(): string {
    return join(this.#folder, 'index.json');
  }

  /**
   * Whether the folder is a layout. A folder that is none but could become one (absent, empty, or left half-made) gives
   * false; anything else is an error: files of another purpose are not to be mixed with blobs.
   */
  async exists(): Promise<boolean> {
    const path = join(this.#folder, 'oci-layout');
    let names: string[];
    try {
      names = await readdir(this.#folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw wrapError(error, 'IO', 'cannot read the layout folder', { path: this.#folder });
    }
    if (!names.includes('oci-layout')) {
      const other = names.find((name) => name !== 'blobs' && name !== 'index.json' && !name.startsWith('.'));
      if (other === undefined) return false;
      throw new LazypullError('USAGE', 'folder is not an OCI layout: it has no oci-layout file and holds something else', { path: join(this.#folder, other) });
    }
    const version = (await readJson(path, 4096))['imageLayoutVersion'];
    if (typeof version !== 'string') throw corrupt('oci-layout has no imageLayoutVersion', { path });
    if (!version.startsWith('1.')) throw new LazypullError('UNSUPPORTED', `layout version ${version.slice(0, 32)} is not 1.x`, { path });
    return true;
  }

  /** Makes the folder a layout unless it is one. Safe to run by several processes at a time. */
  async create(): Promise<void> {
    this.#created ??= this.#create().catch((error: unknown) => {
      this.#created = undefined;
      throw error;
    });
    return this.#created;
  }

  /** The entries as they are now; none when the layout does not exist yet. */
  async read(): Promise<readonly IndexEntry[]> {
    return (await this.#read()).entries;
  }

  /**
   * Rewrites the list under the lock: `change` gets the entries as they are at that moment and returns the raw new ones,
   * or undefined to leave the file alone. It may run while other processes read, who see the old list or the new one.
   */
  async update(change: (entries: readonly IndexEntry[]) => readonly unknown[] | undefined, signal?: AbortSignal): Promise<void> {
    await this.create();
    await this.#locked(async () => {
      const { document, entries } = await this.#read();
      const manifests = change(entries);
      if (!manifests) return;
      const bytes = encodeDocument({ ...document, manifests });
      // What could not be read again must not be written.
      if (bytes.length > MANIFEST_LIMIT) throw new LazypullError('LIMIT', `index.json would be larger than the ${MANIFEST_LIMIT} bytes allowed`, { path: this.#path });
      await replaceFile(this.#path, bytes);
    }, signal);
  }

  async #create(): Promise<void> {
    if (await this.exists()) return;
    try {
      await mkdir(join(this.#folder, 'blobs', 'sha256'), { recursive: true });
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot create the layout', { path: this.#folder });
    }
    await this.#locked(async () => {
      if (await this.exists()) return;
      // oci-layout comes last: it is what makes the folder a layout, so that no reader meets one without an index.
      const document = { schemaVersion: 2, mediaType: OCI.index, manifests: [] };
      if ((await fingerprint(this.#path)) === undefined) await replaceFile(this.#path, encodeDocument(document));
      await replaceFile(join(this.#folder, 'oci-layout'), encodeDocument({ imageLayoutVersion: '1.0.0' }));
    });
  }

  #locked(work: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    return withLock(join(this.#folder, '.lazypull.lock'), work, { signal });
  }

  async #read(): Promise<Parsed> {
    const key = await fingerprint(this.#path);
    if (key === undefined) {
      if (await this.exists()) throw corrupt('layout has no index.json', { path: this.#path });
      return { document: {}, entries: [] };
    }
    // The key is taken before the bytes are: a file replaced in between is read again next time.
    if (this.#cached?.key !== key) this.#cached = { key, parsed: await this.#parse() };
    return this.#cached.parsed;
  }

  async #parse(): Promise<Parsed> {
    const document = await readJson(this.#path, MANIFEST_LIMIT);
    const list = document['manifests'] ?? [];
    if (!Array.isArray(list)) throw corrupt('index.json has no list of manifests', { path: this.#path });
    return { document, entries: list.map(parseEntry) };
  }
}

function parseEntry(raw: unknown): IndexEntry {
  let descriptor: Descriptor | undefined;
  try {
    descriptor = parseDescriptor(raw);
  } catch {
    // Another algorithm or a vendor's extension: not ours to read, not ours to lose.
    return { raw, descriptor: undefined, name: undefined, fullName: undefined };
  }
  const { [REF_NAME]: name, [CONTAINERD_NAME]: fullName } = descriptor.annotations ?? {};
  return { raw, descriptor, name, fullName };
}

async function readJson(path: string, limit: number): Promise<Record<string, unknown>> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw corrupt('not a regular file', { path });
    if (info.size > limit) throw new LazypullError('LIMIT', `file of ${info.size} bytes is larger than the ${limit} bytes allowed`, { path });
    return parseObject(await readFile(path), basename(path), { path });
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot read', { path });
  }
}

/** Changes whenever the file is replaced or rewritten. */
async function fingerprint(path: string): Promise<string | undefined> {
  try {
    const info = await stat(path, { bigint: true });
    return `${info.dev}:${info.ino}:${info.size}:${info.mtimeNs}:${info.ctimeNs}`;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw wrapError(error, 'IO', 'cannot read', { path });
  }
}
