import { LazypullError, wrapError } from '../core/errors.ts';
import type { LayerInput } from '../core/format.ts';
import { tap } from '../core/stream.ts';
import type { ByteStream, ImageStore, WorkerPool } from '../core/types.ts';
import { unpackLayer } from '../codec/unpack-layer.ts';
import type { ConvertProgress } from './convert-report.ts';
import { checkDiffId, type SourceLayer } from './follow-layer.ts';

export interface LayerInputJob {
  readonly source: ImageStore;
  /** With more than one job the tar is hashed by a thread of its own. */
  readonly hashing: Pick<WorkerPool, 'jobs'>;
  /** Most bytes of plain tar that the layer may have. */
  readonly maxLayerSize: number;
  readonly signal: AbortSignal;
  progress(event: ConvertProgress): void;
}

/**
 * Has `work` read a layer as formats see it: stored bytes verified on the way in, plain tar held against the config's diffID.
 * `onItsWay` is the first pass.
 */
export async function withLayerInput<T>(layer: SourceLayer, job: LayerInputJob, work: (input: LayerInput) => Promise<T>, onItsWay?: ByteStream): Promise<T> {
  const { descriptor, diffId, reserved, tar: made } = layer;
  const what = `layer ${descriptor.digest}`;
  let fault: LazypullError | undefined;
  // Later passes (a prefetch list) read the same bytes again: only the first one is progress.
  let passes = 0;
  const packed = (): ByteStream => {
    if (made) throw new LazypullError('UNSUPPORTED', `${what} is not stored as one blob`);
    const first = passes++ === 0;
    if (first && onItsWay) return onItsWay;
    return tap(job.source.fetch(descriptor, job.signal), (bytes) => {
      if (first) job.progress({ type: 'bytes', packed: bytes.length, tar: 0 });
    });
  };
  const input: LayerInput = {
    descriptor,
    ...(diffId !== undefined && { diffId }),
    ...(reserved && { reserved }),
    packed,
    async *tar() {
      if (made) {
        yield* made();
        if (passes++ === 0) job.progress({ type: 'bytes', packed: descriptor.size, tar: 0 });
        return;
      }
      const tar = unpackLayer(packed(), { maxSize: job.maxLayerSize, what, size: descriptor.size, workers: job.hashing, signal: job.signal, check: (digest) => checkDiffId(digest, layer) });
      try {
        yield* tar.stream;
      } catch (error) {
        throw wrapError(error, 'CORRUPT', `${what} cannot be read`);
      } finally {
        fault ??= tar.fault();
      }
    },
  };
  try {
    return await work(input);
  } catch (error) {
    // What a reader stumbles over may have been wrong before.
    throw fault ?? error;
  }
}
