import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { decompress } from '@cloudpss/zstd/wasm';
import { encodeEntry, END_OF_ARCHIVE, tarOf, type TarEntry } from '../../fixtures/tar-builder.ts';
import { appLayer, baseLayer, noise, pages } from '../../fixtures/tiny-tree.ts';
import type { NydusTools } from './nydus-tools.ts';

/** Nydus images made by Nydus' own builder in the manner of containerd's converter, and the images they are made of. Nothing of src has a part in it. */

const SNAPSHOT = 'containerd.io/snapshot/';
const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1';
const OCI = 'application/vnd.oci.image';
const TIME = 1704067200;

export interface Variant {
  /** For `create`. */
  readonly flags?: readonly string[];
  /**
   * `toc` (default): bootstrap and table of contents inside the blobs, as containerd's converter has it. `plain`: bootstraps beside the
   * blobs, as the first versions had it. `zran`: the gzip layers stay. `tarfs`: the plain tars are the blobs.
   */
  readonly kind?: 'toc' | 'plain' | 'zran' | 'tarfs';
  readonly version?: 5 | 6;
  /** Ship the blobs' tables with the bootstrap, as newer converters do; zstd only. */
  readonly tables?: boolean;
  /** Paths for the prefetch table, one a line. */
  readonly prefetch?: string;
  /** An image whose chunks need no storing again. */
  readonly dictionary?: { readonly bootstrap: string; readonly layout: Layout };
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

/** An OCI image layout under construction. */
export interface Layout {
  readonly folder: string;
  put(bytes: Uint8Array): Blob;
  read(digest: string): Buffer;
  path(digest: string): string;
  tag(name: string, manifest: object): void;
}

export function createLayout(folder: string): Layout {
  const shelf = join(folder, 'blobs', 'sha256');
  const manifests: object[] = [];
  mkdirSync(shelf, { recursive: true });
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const path = (digest: string): string => join(shelf, digest.replace('sha256:', ''));
  const put = (bytes: Uint8Array): Blob => {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    writeFileSync(path(digest), bytes);
    return { digest, size: bytes.length };
  };
  return {
    folder,
    path,
    put,
    read: (digest) => readFileSync(path(digest)),
    tag(name, manifest) {
      const mediaType = `${OCI}.manifest.v1+json`;
      const stored = put(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...manifest })));
      manifests.push({ mediaType, ...stored, platform: { architecture: 'amd64', os: 'linux' }, annotations: { 'org.opencontainers.image.ref.name': name } });
      writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: `${OCI}.index.v1+json`, manifests }));
    },
  };
}

const dir = (name: string): TarEntry => ({ name, type: 'dir', mode: 0o755, mtime: TIME });
const file = (name: string, body: Uint8Array, mode = 0o644): TarEntry => ({ name, type: 'file', mode, mtime: TIME, body });

/**
 * What the tiny image's layers hold, as far as Nydus' builder takes it: it refuses xattrs with a newline in the value, and hard links
 * to a file whose parents have no entry; and smaller. Every layer names all its directories, the root too: its merger gives those that
 * are not named made-up attributes.
 */
export function sourceLayers(): readonly Uint8Array[] {
  const tame = (entry: TarEntry): TarEntry => ({ ...entry, ...(entry.pax && { pax: entry.pax.map(([key, value]) => [key, Buffer.from(value).map((byte) => (byte === 10 ? 11 : byte))] as const) }) });
  const book = 'usr/share/book/';
  const data = [
    dir('./'), dir('usr/'), dir('usr/share/'), dir(book),
    file(`${book}pages.txt`, pages(140_000)),
    { ...file(`${book}pages-again.txt`, new Uint8Array()), type: 'link', linkName: `${book}pages.txt` } as const,
    file(`${book}zeros`, new Uint8Array(66_000)),
    file(`${book}noise`, noise(9000, 11), 0o600),
    file(`${book}exactly-one-block`, noise(512, 13)),
    file(`${book}exactly-one-chunk`, pages(65_536)),
    ...Array.from({ length: 40 }, (_, i) => file(`${book}leaf-${i}`, Buffer.from(`leaf ${i}\n`.repeat(1 + i * 9)))),
  ];
  const parents = (entry: TarEntry): readonly TarEntry[] => {
    if (entry.name === 'opt/app/bin/start') return [dir('opt/app/'), dir('opt/app/bin/'), entry];
    return entry.name === 'srv/start' ? [dir('srv/'), entry] : [entry];
  };
  return [baseLayer('amd64').map(tame), data, [dir('./'), ...appLayer().flatMap(parents)], [dir('./')]].map(tarOf);
}

/** Plain data of one gzip member; members know nothing of files, as those of pigz and bgzip. */
const MEMBER = 100_000;

/** Puts plain tars into a layout as an ordinary image, large ones as several gzip members; returns the digests of its layers. */
export function putSource(layout: Layout, tag: string, tars: readonly Uint8Array[]): readonly string[] {
  const layers = tars.map((tar) => ({ mediaType: `${OCI}.layer.v1.tar+gzip`, ...layout.put(gzipMembers(tar)) }));
  const diffIds = tars.map((tar) => `sha256:${createHash('sha256').update(tar).digest('hex')}`);
  layout.tag(tag, { config: config(layout, diffIds, 'source'), layers });
  return layers.map(({ digest }) => digest);
}

function gzipMembers(tar: Uint8Array): Uint8Array {
  return Buffer.concat(Array.from({ length: Math.ceil(tar.length / MEMBER) }, (_, i) => gzipSync(tar.subarray(i * MEMBER, (i + 1) * MEMBER))));
}

function config(layout: Layout, diffIds: readonly string[], createdBy: string): object {
  const bytes = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: diffIds }, history: diffIds.map(() => ({ created_by: createdBy })) }));
  return { mediaType: `${OCI}.config.v1+json`, ...layout.put(bytes) };
}

/** What came of a build. */
export interface NydusImage {
  /** The merged bootstrap. */
  readonly bootstrap: string;
  /** Descriptors as they are in the manifest, the bootstrap's at the end. */
  readonly layers: readonly Blob[];
}

/**
 * Converts gzip layers of a layout layer by layer, merges the bootstraps, and tags the image. `work` is an empty folder for
 * intermediate files; the bootstrap stays there. The merger takes blob ids from the names of the bootstraps: a bootstrap is named by
 * its blob, or by the layer that its blob refers to.
 */
export async function convertByNydus(tools: NydusTools, layout: Layout, tag: string, sources: readonly string[], variant: Variant, work: string): Promise<NydusImage> {
  const { flags = [], kind = 'toc', version = 6, prefetch = '/' } = variant;
  const dictionary = variant.dictionary ? ['--chunk-dict', `bootstrap=${variant.dictionary.bootstrap}`] : [];
  const blobs = join(work, 'blobs');
  const boots = join(work, 'boots');
  mkdirSync(blobs, { recursive: true });
  mkdirSync(boots);
  const bootstraps: string[] = [];
  const layers: (Blob & { readonly toc?: string })[] = [];
  const descriptors: object[] = [];
  const diffIds: string[] = [];
  const extras: TarEntry[] = [];
  const add = (stored: Blob, toc?: string, reference?: string): void => {
    layers.push({ ...stored, ...(toc !== undefined && { toc }) });
    descriptors.push({ mediaType: NYDUS_BLOB, ...stored, annotations: { [`${SNAPSHOT}nydus-blob`]: 'true', ...(reference !== undefined && { [`${SNAPSHOT}nydus-ref`]: reference }) } });
    diffIds.push(stored.digest);
  };
  for (const [i, digest] of sources.entries()) {
    const tar = join(work, `layer-${i}.tar`);
    writeFileSync(tar, gunzipSync(layout.read(digest)));
    const common = ['--log-level', 'warn', '--whiteout-spec', 'none', '--fs-version', String(version), ...flags, ...dictionary];
    if (kind === 'toc' || kind === 'zran') {
      const blob = join(work, `layer-${i}.blob`);
      const how = kind === 'zran' ? ['--type', 'targz-ref'] : ['--type', 'tar-rafs', '--prefetch-policy', 'fs'];
      await tools.build(['create', ...common, ...how, '--blob-inline-meta', '--features', 'blob-toc', '--blob', blob, kind === 'zran' ? layout.path(digest) : tar], kind === 'zran' ? '' : prefetch);
      const bytes = readFileSync(blob);
      const stored = layout.put(bytes);
      const members = readToc(bytes);
      const named = join(boots, kind === 'zran' ? digest.slice(7) : stored.digest.slice(7));
      writeFileSync(named, members.get('image.boot')?.() ?? new Uint8Array());
      bootstraps.push(named);
      const table = members.get('blob.meta')?.();
      if (variant.tables && table) {
        const padded = Buffer.concat([table, Buffer.alloc((4096 - (table.length % 4096)) % 4096), members.get('blob.meta.header')?.() ?? new Uint8Array()]);
        extras.push(file(`image/${stored.digest.slice(7)}.blob.meta`, padded, 0o444));
      }
      add(stored, tocDigest(bytes), kind === 'zran' ? digest : undefined);
    } else {
      const bootstrap = join(work, `layer-${i}.boot`);
      const before = new Set(readdirSync(blobs));
      const how = kind === 'tarfs' ? ['--type', 'tar-tarfs'] : ['--type', 'tar-rafs', '--prefetch-policy', 'fs'];
      await tools.build(['create', ...common, ...how, '--blob-dir', blobs, '--bootstrap', bootstrap, tar], kind === 'tarfs' ? '' : prefetch);
      const made = readdirSync(blobs).filter((name) => !before.has(name));
      const stored = kind === 'tarfs' ? layout.put(readFileSync(tar)) : made.map((name) => layout.put(readFileSync(join(blobs, name))))[0];
      if (stored && kind !== 'tarfs') assert.deepEqual(made, [stored.digest.slice(7)], 'a plain blob is named by its digest');
      const named = join(boots, stored?.digest.slice(7) ?? `layer-${i}`);
      renameSync(bootstrap, named);
      bootstraps.push(named);
      if (stored) add(stored);
    }
  }

  const bootstrap = join(work, 'image.boot');
  const references = kind === 'zran' ? [
    '--blob-digests', layers.map(({ digest }) => digest.slice(7)).join(),
    '--blob-sizes', layers.map(({ size }) => size).join(),
    '--blob-toc-digests', layers.map(({ toc }) => toc).join(),
  ] : [];
  await tools.build(['merge', '--log-level', 'warn', '--prefetch-policy', 'fs', '--bootstrap', bootstrap, ...dictionary, ...references, ...bootstraps], prefetch);
  if (variant.dictionary) {
    // Blobs of the dictionary that the image came to need are layers of it.
    for (const id of await tools.check(bootstrap)) {
      if (!layers.some(({ digest }) => digest === `sha256:${id}`)) add(layout.put(variant.dictionary.layout.read(id)));
    }
  }
  const tar = Buffer.concat([encodeEntry({ name: 'image', type: 'dir', mode: 0o755 }), encodeEntry({ name: 'image/image.boot', type: 'file', mode: 0o444, body: readFileSync(bootstrap) }), ...extras.map(encodeEntry), END_OF_ARCHIVE]);
  const packed = layout.put(gzipSync(tar));
  descriptors.push({ mediaType: `${OCI}.layer.v1.tar+gzip`, ...packed, annotations: { [`${SNAPSHOT}nydus-bootstrap`]: 'true', [`${SNAPSHOT}nydus-fs-version`]: String(version) } });
  diffIds.push(`sha256:${createHash('sha256').update(tar).digest('hex')}`);
  layout.tag(tag, { config: config(layout, diffIds, 'Nydus'), layers: descriptors });
  return { bootstrap, layers: [...layers, packed] };
}

/** The members of a blob that has a table of contents, by name; each is read, and inflated, on demand. */
export function readToc(blob: Buffer): ReadonlyMap<string, () => Buffer> {
  const { start, end } = tocRange(blob);
  const members = new Map<string, () => Buffer>();
  for (let at = start; at < end; at += 128) {
    const flags = blob.readUInt32LE(at);
    const name = blob.toString('latin1', at + 8, at + 24).replace(/\0+$/, '');
    const offset = Number(blob.readBigUInt64LE(at + 56));
    const stored = blob.subarray(offset, offset + Number(blob.readBigUInt64LE(at + 64)));
    members.set(name, () => (flags & 2 ? Buffer.from(decompress(stored)) : stored));
  }
  return members;
}

/** The last 512 bytes are a tar header with the size of what lies before it. */
function tocRange(blob: Buffer): { readonly start: number; readonly end: number } {
  const end = blob.length - 512;
  return { start: end - Number.parseInt(blob.toString('latin1', end + 124, end + 135), 8), end };
}

function tocDigest(blob: Buffer): string {
  return createHash('sha256').update(blob.subarray(tocRange(blob).start)).digest('hex');
}

/** `image/image.boot` of a bootstrap layer, with whatever else is in there, by name. */
export function unpackBootstrap(layer: Uint8Array): ReadonlyMap<string, Buffer> {
  const tar = gunzipSync(layer);
  const files = new Map<string, Buffer>();
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const name = tar.toString('latin1', at, at + 100).replace(/\0.*$/s, '');
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8) || 0;
    files.set(name, tar.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
