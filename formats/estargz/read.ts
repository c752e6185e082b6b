import { concat } from '../../src/core/bytes.ts';
import { digestOf } from '../../src/core/digest.ts';
import { corrupt, LazypullError, wrapError } from '../../src/core/errors.ts';
import { checkRange, sliceSource, streamSource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import type { AdoptedLayer, StoredLayer } from '../../src/core/format.ts';
import type { ByteSource, OpenLayer } from '../../src/core/types.ts';
import { gunzip, gunzipMember } from '../../src/codec/gzip.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { ANNOTATION, decodeFooter, decodeToc, EXTERNAL_TOC_SUFFIX, FOOTER_SIZE, RESERVED_NAMES, TOC_NAME, type Footer, type TocEntry } from './layout.ts';
import { buildIndex } from './toc-tree.ts';

/** Read from a blob's end at once: footer and, for most layers, the whole TOC. */
const TAIL = 64 << 10;
/** Most bytes of TOC JSON that are read (an entry has about 500). */
const TOC_LIMIT = 384 << 20;

const GZIP_LAYER = /[+.]gzip$/;

/** Whether a layer is eStargz: by annotation, or else by the footer of a gzip layer. */
export async function detectEstargz(layer: StoredLayer, signal?: AbortSignal): Promise<boolean> {
  const { mediaType, annotations } = layer.descriptor;
  if (!GZIP_LAYER.test(mediaType)) return false;
  if (annotations?.[ANNOTATION.tocDigest] !== undefined) return true;
  return (await footerOf(layer.source, signal)) !== undefined;
}

/** Keeps a layer that already is eStargz, if a reader can verify it: TOC in the layer, with a digest on every chunk. */
export async function adoptEstargz(layer: StoredLayer, signal?: AbortSignal): Promise<AdoptedLayer | undefined> {
  const source = readingTail(layer.source);
  const footer = await footerOf(source, signal);
  if (footer?.kind !== 'estargz') return undefined;
  const toc = await readToc({ ...layer, source }, footer, signal);
  const payloads = toc.entries.filter(isPayload);
  if (payloads.some((entry) => entry.chunkDigest === undefined)) return undefined;
  // Also a layer nobody annotated becomes verifiable; the size of its tar is for old readers only and not known here.
  const annotations = { ...layer.descriptor.annotations, [ANNOTATION.tocDigest]: toc.digest };
  return {
    descriptor: { ...layer.descriptor, annotations },
    entries: toc.entries.filter((entry) => entry.type !== 'chunk' && !RESERVED_NAMES.includes(cleanPath(entry.name))).length,
    chunks: payloads.length,
  };
}

/** Footer and TOC are read (one request for most layers), checked against the annotation, and become the index. */
export async function openEstargz(layer: StoredLayer, signal?: AbortSignal): Promise<OpenLayer> {
  const what = `layer ${layer.descriptor.digest}`;
  const source = readingTail(layer.source);
  const footer = await footerOf(source, signal);
  if (!footer) throw corrupt(`${what} has no eStargz footer`, { offset: Math.max(0, layer.source.size - FOOTER_SIZE.estargz) });
  const toc = footer.kind === 'external' ? await externalToc(layer, signal) : await readToc({ ...layer, source }, footer, signal);
  const end = footer.tocOffset ?? layer.source.size - FOOTER_SIZE.external;
  const { annotations = {} } = layer.descriptor;
  const { index, landmark = 'none' } = buildIndex(toc.entries, end);
  const tarSize = /^\d{1,15}$/.exec(annotations[ANNOTATION.uncompressedSize] ?? '')?.[0];
  return {
    format: 'estargz',
    index,
    sources: [layer.source],
    inflate: async (chunk, packed) => gunzipMember(packed, { skip: chunk.skip ?? 0, size: chunk.size }, `${what}: gzip member at byte ${chunk.offset}`),
    indexBytes: toc.bytes + FOOTER_SIZE[footer.kind],
    reserved: RESERVED_NAMES,
    ...(tarSize !== undefined && { tarSize: Number(tarSize) }),
    problems: problemsOf(toc, footer, annotations),
    facts: {
      footer: footer.kind,
      landmark,
      tocDigest: toc.digest,
      tocVerified: annotations[ANNOTATION.tocDigest] !== undefined,
      ...(footer.tocOffset !== undefined && { tocOffset: footer.tocOffset }),
    },
  };
}

/** What keeps a verifying reader from mounting the layer, though it can be read (§15). */
function problemsOf(toc: Toc, footer: Footer, annotations: Readonly<Record<string, string>>): string[] {
  const problems: string[] = [];
  if (annotations[ANNOTATION.tocDigest] === undefined) problems.push(`no annotation ${ANNOTATION.tocDigest}: nothing vouches for the TOC`);
  if (footer.kind === 'legacy') problems.push('legacy stargz: readers that verify refuse it');
  const bare = toc.entries.filter((entry) => isPayload(entry) && entry.chunkDigest === undefined);
  if (bare[0]) problems.push(`${bare.length} payloads have no chunkDigest, ${JSON.stringify(bare[0].name)} is the first`);
  return problems;
}

function isPayload(entry: TocEntry): boolean {
  return entry.type === 'chunk' || (entry.type === 'reg' && (entry.size ?? 0) > 0);
}

/** The same bytes, of which the last ones are read once, together, when first asked for. */
function readingTail(source: ByteSource): ByteSource {
  const start = Math.max(0, source.size - TAIL);
  let tail: Promise<Uint8Array> | undefined;
  return {
    size: source.size,
    async read(offset, length, signal) {
      checkRange(source, offset, length);
      if (offset + length <= start) return source.read(offset, length, signal);
      const bytes = await (tail ??= source.read(start, source.size - start, signal));
      if (offset >= start) return bytes.subarray(offset - start, offset - start + length);
      return concat([await source.read(offset, start - offset, signal), bytes.subarray(0, offset + length - start)]);
    },
  };
}

interface Toc {
  readonly entries: readonly TocEntry[];
  readonly digest: string;
  /** Stored bytes. */
  readonly bytes: number;
}

async function footerOf(source: ByteSource, signal: AbortSignal | undefined): Promise<Footer | undefined> {
  const length = Math.min(source.size, FOOTER_SIZE.estargz);
  const footer = decodeFooter(await source.read(source.size - length, length, signal));
  // A TOC offset that points past the footer is no footer of ours.
  return footer?.tocOffset !== undefined && footer.tocOffset >= source.size - FOOTER_SIZE[footer.kind] ? undefined : footer;
}

async function readToc(layer: StoredLayer, footer: Footer, signal: AbortSignal | undefined): Promise<Toc> {
  const start = footer.tocOffset ?? 0;
  const size = layer.source.size - FOOTER_SIZE[footer.kind] - start;
  return parseToc(sliceSource(layer.source, start, size), layer, signal);
}

async function externalToc(layer: StoredLayer, signal: AbortSignal | undefined): Promise<Toc> {
  const { digest } = layer.descriptor;
  const layers = await layer.image?.sibling(EXTERNAL_TOC_SUFFIX, signal);
  const found = layers?.find((toc) => toc.descriptor.annotations?.[ANNOTATION.layerDigest] === digest);
  if (!found) throw new LazypullError('NOT_FOUND', `the TOC of layer ${digest} is not in an image tagged …${EXTERNAL_TOC_SUFFIX} beside this one`);
  return parseToc(found.source, layer, signal);
}

/** Inflates a TOC member, takes the JSON out of its tar and holds it against the layer's annotation. */
async function parseToc(stored: ByteSource, layer: StoredLayer, signal: AbortSignal | undefined): Promise<Toc> {
  const what = `TOC of layer ${layer.descriptor.digest}`;
  const json = await untarToc(stored, what, signal);
  const digest = digestOf(json);
  const wanted = layer.descriptor.annotations?.[ANNOTATION.tocDigest];
  if (wanted !== undefined && wanted !== digest) throw new LazypullError('DIGEST_MISMATCH', `${what} has digest ${digest}, its annotation says ${wanted}`, { path: TOC_NAME });
  return { entries: decodeToc(json), digest, bytes: stored.size };
}

async function untarToc(stored: ByteSource, what: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const tar = new TarReader(gunzip(streamSource(stored, 1 << 20, signal), { maxSize: TOC_LIMIT + (1 << 20), what }), { what });
  try {
    const entry = await tar.next();
    if (entry?.path !== TOC_NAME || entry.type !== 'file') throw corrupt(`${what} does not begin with a file ${TOC_NAME}`);
    if (entry.size > TOC_LIMIT) throw new LazypullError('LIMIT', `${what} has ${entry.size} bytes, more than the ${TOC_LIMIT} allowed`);
    const json = await collect(tar.body(), TOC_LIMIT, what);
    if (await tar.next()) throw corrupt(`${what} holds more than ${TOC_NAME}`);
    // To the end: the member's checksum is behind the end of the archive.
    for await (const _ of tar.trailer());
    return json;
  } catch (error) {
    throw wrapError(error, 'CORRUPT', `${what} cannot be read`);
  } finally {
    await tar.close();
  }
}
