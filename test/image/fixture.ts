import { gzipSync } from 'node:zlib';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import { corrupt } from '../../src/core/errors.ts';
import { streamOf } from '../../src/core/stream.ts';
import type { Format, StoredLayer } from '../../src/core/format.ts';
import type { Chunk, Descriptor, Extent, ImageStore, OpenLayer, Platform } from '../../src/core/types.ts';
import { TreeBuilder } from '../../src/layer/tree.ts';
import { describe, encodeDocument } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf, type TarHeader } from '../../src/tar/write.ts';

/** An entry of a test layer; `content` makes it a file. */
export interface Entry extends Partial<TarHeader> {
  readonly path: string;
  readonly content?: string | Uint8Array;
}

export function headerOf(entry: Entry): TarHeader {
  const { content, ...rest } = entry;
  const type = entry.type ?? (content === undefined ? 'directory' : 'file');
  return { mode: type === 'directory' ? 0o755 : 0o644, mtime: { seconds: 1_700_000_000, nanoseconds: 0 }, ...rest, type, ...(type === 'file' && { size: bytesOf(entry).length }) };
}

function bytesOf({ content = '' }: Entry): Buffer {
  return Buffer.from(content as Uint8Array);
}

/** A plain tar of the entries. */
export function tarOf(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...tarParts(entries).parts, END_OF_ARCHIVE]);
}

function tarParts(entries: readonly Entry[]): { parts: Uint8Array[]; starts: number[] } {
  const parts: Uint8Array[] = [];
  const starts: number[] = [];
  let at = 0;
  const put = (bytes: Uint8Array): void => {
    parts.push(bytes);
    at += bytes.length;
  };
  for (const entry of entries) {
    put(encodeTarHeader(headerOf(entry)));
    const content = bytesOf(entry);
    starts.push(at);
    put(content);
    put(new Uint8Array(paddingOf(content.length)));
  }
  return { parts, starts };
}

export interface LayerBlob {
  readonly bytes: Uint8Array;
  readonly diffId: Digest;
  readonly mediaType: string;
  readonly annotations?: Record<string, string>;
}

export function gzipLayer(entries: readonly Entry[]): LayerBlob {
  const tar = tarOf(entries);
  return { bytes: gzipSync(tar), diffId: digestOf(tar), mediaType: OCI.layerGzip };
}

export function plainLayer(entries: readonly Entry[]): LayerBlob {
  const tar = tarOf(entries);
  return { bytes: tar, diffId: digestOf(tar), mediaType: OCI.layer };
}

/** The file that the test format adds to its tars. */
export const MARK = '.lazytest';
const ANNOTATION = 'test.lazypull.index';
const FOOTER = 16;

interface IndexRecord {
  path: string;
  header: TarHeader;
  offset: number;
  digests: Digest[];
  digest?: Digest;
}

export interface LazyOptions {
  /** Bytes per chunk. */
  readonly chunkSize?: number;
  /** Without digests of chunks, only of files. */
  readonly noChunkDigests?: boolean;
  /** Last touch to the index before it is stored. */
  readonly change?: (records: IndexRecord[]) => void;
}

/**
 * The simplest lazy format: a plain tar, and behind its end a JSON index and its length. It is what the seam between
 * formats and everything else is tested with.
 */
export function lazyLayer(entries: readonly Entry[], options: LazyOptions = {}): LayerBlob {
  const all: Entry[] = [{ path: MARK, content: 'x' }, ...entries];
  const { parts, starts } = tarParts(all);
  const chunkSize = options.chunkSize ?? 64;
  const records = all.map((entry, i): IndexRecord => {
    const header = headerOf(entry);
    const content = bytesOf(entry);
    const digests: Digest[] = [];
    if (!options.noChunkDigests) for (let at = 0; at < content.length; at += chunkSize) digests.push(digestOf(content.subarray(at, at + chunkSize)));
    return { path: entry.path, header: { ...header, xattrs: undefined as never }, offset: starts[i] as number, digests, ...(header.type === 'file' && { digest: digestOf(content) }) };
  });
  options.change?.(records);
  const index = Buffer.from(JSON.stringify({ chunkSize, records }));
  const bytes = Buffer.concat([...parts, END_OF_ARCHIVE, index, Buffer.from(String(index.length).padStart(FOOTER, '0'))]);
  return { bytes, diffId: digestOf(bytes), mediaType: OCI.layer, annotations: { [ANNOTATION]: digestOf(index) } };
}

async function openTest(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  const { source } = layer;
  const footer = Buffer.from(await source.read(source.size - FOOTER, FOOTER, signal)).toString();
  const length = Number(footer);
  const json = await source.read(source.size - FOOTER - length, length, signal);
  if (digestOf(json) !== layer.descriptor.annotations?.[ANNOTATION]) throw corrupt('test index has the wrong digest');
  const { chunkSize, records } = JSON.parse(Buffer.from(json).toString()) as { chunkSize: number; records: IndexRecord[] };
  const tree = new TreeBuilder();
  const chunks: Chunk[] = [];
  for (const { path: raw, header, offset, digests, digest } of records) {
    const path = raw.replace(/\/$/, '');
    const attributes = { mode: header.mode, uid: header.uid ?? 0, gid: header.gid ?? 0, mtime: header.mtime ?? { seconds: 0, nanoseconds: 0 }, xattrs: new Map<string, Uint8Array>() };
    const size = header.size ?? 0;
    const extents: Extent[] = [];
    for (let at = 0; at < size; at += chunkSize) {
      const own = Math.min(chunkSize, size - at);
      const chunkDigest = digests[at / chunkSize];
      const chunk: Chunk = { blob: 0, offset: offset + at, length: own, size: own, ...(chunkDigest && { digest: chunkDigest }) };
      chunks.push(chunk);
      extents.push({ fileOffset: at, length: own, chunk, chunkOffset: 0 });
    }
    if (path === MARK) continue;
    if (header.type === 'directory') tree.add(path, { ...attributes, type: 'directory' });
    else if (header.type === 'symlink') tree.add(path, { ...attributes, type: 'symlink', target: header.linkName ?? '' });
    else if (header.type === 'hardlink') tree.link(path, header.linkName ?? '');
    else if (header.type === 'file') tree.add(path, { ...attributes, type: 'file', size, extents, ...(digest && { digest }) });
    else throw corrupt(`test index has a ${header.type}`);
  }
  return {
    format: 'test',
    index: { root: tree.finish(), chunks, prefetch: [{ offset: 0, end: 512 }] },
    sources: [source],
    inflate: async (chunk, packed) => packed.subarray(0, chunk.size),
    indexBytes: length + FOOTER,
    reserved: [MARK],
    facts: { chunkSize },
  };
}

export const testFormat: Format<unknown> = {
  kind: 'rewriting',
  name: 'test',
  detect: async (layer) => layer.descriptor.annotations?.[ANNOTATION] !== undefined,
  open: openTest,
  adopt: async () => undefined,
  convert: () => Promise.reject(new Error('not needed')),
};

export interface ImageSpec {
  readonly layers: readonly LayerBlob[];
  readonly platform?: Platform;
  /** Changes to the config and the manifest. */
  readonly config?: object;
  readonly manifest?: object;
}

export const LINUX: Platform = { os: 'linux', architecture: 'amd64' };
export const ARM: Platform = { os: 'linux', architecture: 'arm64' };

export async function putBlob(store: ImageStore, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor = describe(mediaType, bytes);
  await store.push(descriptor, () => streamOf(bytes));
  return descriptor;
}

/** Stores an image; returns its manifest's descriptor, platform included. */
export async function putImage(store: ImageStore, spec: ImageSpec, tag?: string): Promise<Descriptor> {
  const layers: Descriptor[] = [];
  for (const { bytes, mediaType, annotations } of spec.layers) {
    layers.push({ ...(await putBlob(store, mediaType, bytes)), ...(annotations && { annotations }) });
  }
  const platform = spec.platform ?? LINUX;
  const config = await putBlob(store, OCI.config, encodeDocument({
    ...platform, config: { Cmd: ['sh'] }, rootfs: { type: 'layers', diff_ids: spec.layers.map(({ diffId }) => diffId) }, ...spec.config,
  }));
  const manifest = await putBlob(store, OCI.manifest, encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config, layers, ...spec.manifest }));
  if (tag !== undefined) await store.tag(manifest, tag);
  return { ...manifest, platform };
}

export async function putIndex(store: ImageStore, manifests: readonly Descriptor[], tag?: string, changes: object = {}): Promise<Descriptor> {
  const index = await putBlob(store, OCI.index, encodeDocument({ schemaVersion: 2, mediaType: OCI.index, manifests, ...changes }));
  if (tag !== undefined) await store.tag(index, tag);
  return index;
}

/** A BuildKit attestation about a manifest. */
export async function putAttestation(store: ImageStore, about: Descriptor): Promise<Descriptor> {
  const statement = await putBlob(store, 'application/vnd.in-toto+json', Buffer.from(`{"about":"${about.digest}"}`));
  const config = await putBlob(store, OCI.config, encodeDocument({ architecture: 'unknown', os: 'unknown', rootfs: { type: 'layers', diff_ids: [statement.digest] } }));
  const manifest = await putBlob(store, OCI.manifest, encodeDocument({ schemaVersion: 2, mediaType: OCI.manifest, config, layers: [statement] }));
  return {
    ...manifest,
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': about.digest },
  };
}

/** An artifact that refers to another manifest. */
export async function putReferrer(store: ImageStore, subject: Descriptor, text: string): Promise<Descriptor> {
  const layer = await putBlob(store, 'text/plain', Buffer.from(text));
  const config = await putBlob(store, OCI.empty, Buffer.from('{}'));
  const { mediaType, digest, size } = subject;
  return putBlob(store, OCI.manifest, encodeDocument({
    schemaVersion: 2, mediaType: OCI.manifest, artifactType: 'application/x-test', config, layers: [layer], subject: { mediaType, digest, size },
  }));
}
