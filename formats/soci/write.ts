import { LazypullError, wrapError } from '../../src/core/errors.ts';
import type { ConvertContext, DescribedLayer, LayerFollower, ResumePoint, SkippedLayer } from '../../src/core/format.ts';
import { Pipe } from '../../src/core/pipe.ts';
import type { Descriptor } from '../../src/core/types.ts';
import { paddingOf } from '../../src/tar/layout.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { Checkpoints } from './checkpoints.ts';
import { BUILD_TOOL, NO_WINDOW, ZTOC_MEDIA_TYPE, type SociLayer, type SociOptions, type SpanInfo, type Ztoc, type ZtocRecord } from './layout.ts';
import type { SpanFinder } from './spans.ts';
import { TarSpans } from './tar-spans.ts';
import { buildIndex } from './toc-tree.ts';
import { tocRecord } from './toc.ts';
import { spanRanges } from './zinfo.ts';
import { encodeZtoc } from './ztoc.ts';

type Context = Pick<ConvertContext, 'ingest' | 'signal'>;
type Options = Pick<Required<SociOptions>, 'spanSize' | 'minLayerSize' | 'transcodeZstd' | 'upstreamCheckpoints'>;
type FinishedLayer = Parameters<LayerFollower['finish']>[0];

/** Readers here take spans of up to this many bytes, stored and inflated. */
const SPAN_LIMIT = 256 << 20;
/** From here on a span is worth a warning: all of it is fetched and inflated for any byte in it. */
const LARGE_SPAN = 64 << 20;

/** What to do about a layer (notes §4.1). Small ones are left out first: repacking would be for nothing. */
export function followSoci(layer: { readonly mediaType: string; readonly size?: number }, context: Context, options: Options): LayerFollower | SkippedLayer | 'repack' {
  const { mediaType, size } = layer;
  if (size !== undefined && size < options.minLayerSize) return tooSmall(size, options);
  if (mediaType.includes('+encrypted')) return { skipped: 'it is encrypted' };
  if (/(?:\+|\.)zstd$/.test(mediaType)) return options.transcodeZstd ? 'repack' : { skipped: 'zstd layers cannot be indexed; convert --transcode-zstd repacks them as gzip' };
  if (/(?:\+|\.)gzip$/.test(mediaType)) return new SociFollower('gzip', context, options);
  if (mediaType === 'application/vnd.oci.image.layer.v1.tar' || mediaType === 'application/vnd.docker.image.rootfs.diff.tar') return new SociFollower('none', context, options);
  return { skipped: `layers of type ${mediaType} cannot be indexed` };
}

function tooSmall(size: number, { minLayerSize }: Options): SkippedLayer {
  return { skipped: `it has ${size} bytes, less than the ${minLayerSize} that a layer worth indexing has` };
}

/** Makes the zTOC of one layer as its bytes go by, and stores it. Memory: the checkpoints' windows and the records. */
class SociFollower implements LayerFollower {
  readonly #compression: FinishedLayer['compression'];
  readonly #context: Context;
  readonly #options: Options;
  readonly #spans: SpanFinder;
  readonly #pipe = new Pipe();
  readonly #reading: Promise<void>;
  readonly #records: ZtocRecord[] = [];
  readonly #paths = new Set<string>();
  /** Bytes of tar that went by, and where the archive in them ends. */
  #tarSeen = 0;
  #tarEnd = 0;
  /** Behind the payload of the last file. */
  #lastFile = 0;
  #skipped: SkippedLayer | undefined;
  #error: LazypullError | undefined;

  constructor(compression: FinishedLayer['compression'], context: Context, options: Options) {
    this.#compression = compression;
    this.#context = context;
    this.#options = options;
    this.#spans = compression === 'gzip' ? new Checkpoints(options) : new TarSpans(options.spanSize);
    this.#reading = this.#read().catch((error: unknown) => this.#failed(wrapError(error, 'INTERNAL', 'the layer cannot be indexed')));
  }

  point(point: ResumePoint): void {
    if (!this.#over) this.#spans.point(point);
  }

  packed(bytes: Uint8Array): void {
    if (!this.#over) this.#spans.packed(bytes);
  }

  async tar(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    this.#tarSeen += bytes.length;
    await this.#pipe.write(bytes);
    this.#spans.reaches(0, this.#tarSeen);
  }

  async finish({ descriptor, compression }: FinishedLayer): Promise<DescribedLayer | SkippedLayer> {
    this.#pipe.end();
    await this.#reading;
    if (this.#error) throw this.#error;
    if (descriptor.size < this.#options.minLayerSize) return tooSmall(descriptor.size, this.#options);
    if (compression !== this.#compression) return { skipped: `it is ${named(compression)}, and its media type says ${named(this.#compression)}` };
    const reason = this.#spans.refused;
    if (this.#skipped || reason !== undefined) return this.#skipped ?? { skipped: reason as string };
    return this.#describe(descriptor);
  }

  async abandon(): Promise<void> {
    this.#pipe.fail(new LazypullError('CANCELLED', 'the layer is given up'));
    await this.#reading;
  }

  /** Nothing that comes can change the outcome. */
  get #over(): boolean {
    return this.#skipped !== undefined || this.#error !== undefined;
  }

  async #read(): Promise<void> {
    const tar = new TarReader(this.#pipe, { what: 'layer' });
    try {
      for (let entry = await tar.next(); entry; entry = await tar.next()) {
        const record = tocRecord(entry);
        if ('skipped' in record) {
          this.#skip(record.skipped);
          return;
        }
        const odd = this.#unreadable(record);
        if (odd !== undefined) {
          this.#skip(odd);
          return;
        }
        this.#records.push(record);
        const end = record.offset + record.size;
        if (record.type === 'reg') this.#lastFile = end;
        this.#spans.reaches(end + paddingOf(record.size), 0);
        if (this.#spans.refused !== undefined) return;
      }
      this.#tarEnd = tar.position;
      this.#spans.ends(tar.position);
    } finally {
      await tar.close();
    }
  }

  /** What the snapshotter's metadata database does not take, though its zTOC decoder does. */
  #unreadable(record: ZtocRecord): string | undefined {
    const path = cleanPath(record.name);
    if (record.type === 'hardlink' && !this.#paths.has(cleanPath(record.linkName))) {
      return `hard link ${JSON.stringify(record.name)} points to ${JSON.stringify(record.linkName)}, which comes later or not at all`;
    }
    this.#paths.add(path);
    return undefined;
  }

  #failed(error: LazypullError): void {
    // What our reader does not know, or not that large, Go's does not read either.
    if (error.code === 'UNSUPPORTED' || error.code === 'LIMIT') this.#skip(error.message);
    else this.#error = error;
  }

  #skip(reason: string): void {
    this.#skipped = { skipped: reason };
    this.#records.length = 0;
    this.#paths.clear();
  }

  async #describe(layer: Descriptor): Promise<DescribedLayer | SkippedLayer> {
    const { spans, digests, packedSize, warnings } = this.#spans.finish();
    if (packedSize !== layer.size) throw new LazypullError('INTERNAL', `${packedSize} of the layer's ${layer.size} bytes went by`);
    if (packedSize === 0) return { skipped: 'it is empty' };
    if (spans.algorithm === 'uncompressed' && packedSize % spans.spanSize === 0 && this.#lastFile === packedSize) {
      // A snapshotter would look for the span behind the last one (notes §4).
      return { skipped: 'its tar has no end, and its last file ends with the last span' };
    }
    const ztoc: Ztoc = { buildTool: BUILD_TOOL, packedSize, tarSize: this.#tarEnd, records: this.#records, spans, spanDigests: digests };
    const ranges = spanRanges(ztoc);
    let largest = 0;
    for (const range of ranges) largest = Math.max(largest, range.packedEnd - range.packedStart, range.tarEnd - range.tarStart);
    if (largest > SPAN_LIMIT) return { skipped: `${mib(largest)} of it can only be inflated as one, more than the ${mib(SPAN_LIMIT)} that readers take` };
    const descriptor = await this.#store(ztoc);
    if ('skipped' in descriptor) return descriptor;
    const details: SociLayer = { descriptor, ztoc: { ...ztoc, spans: withoutWindows(spans) } };
    const refused = refusedBy(ztoc);
    const large = largest > Math.max(LARGE_SPAN, 2 * spans.spanSize) ? [`its largest span has ${mib(largest)}: all of it is inflated for any byte in it`] : [];
    return { blob: descriptor, entries: ztoc.records.length, chunks: ranges.length, warnings: [...warnings, ...large, ...(refused === undefined ? [] : [`lazypull itself does not read the layer, with this index or without: ${refused}`])], details };
  }

  async #store(ztoc: Ztoc): Promise<Descriptor | SkippedLayer> {
    let bytes: Uint8Array;
    try {
      bytes = encodeZtoc(ztoc);
    } catch (error) {
      if (error instanceof LazypullError && error.code === 'LIMIT') return { skipped: error.message };
      throw error;
    }
    return this.#context.ingest(ZTOC_MEDIA_TYPE, (sink) => sink(bytes));
  }
}

/**
 * Why our own reader does not take the layer; undefined if it does. Snapshotters are less particular: a name that climbs out of the
 * layer they put at its root.
 */
function refusedBy(ztoc: Ztoc): string | undefined {
  try {
    buildIndex(ztoc, 'the index');
    return undefined;
  } catch (error) {
    if (error instanceof LazypullError && error.code !== 'INTERNAL') return error.message;
    throw error;
  }
}

/** Nobody needs the windows once the zTOC is stored, and they are nearly all of it. */
function withoutWindows(spans: SpanInfo): SpanInfo {
  if (spans.algorithm === 'uncompressed') return spans;
  return { ...spans, checkpoints: spans.checkpoints.map((checkpoint) => ({ ...checkpoint, window: NO_WINDOW })) };
}

function named(compression: FinishedLayer['compression']): string {
  return compression === 'none' ? 'a plain tar' : compression;
}

function mib(size: number): string {
  return `${Math.ceil(size / 2 ** 20)} MiB`;
}
