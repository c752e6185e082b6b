import { LazypullError } from '../../core/errors.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import { openImage, type OpenImage } from '../../image/open.ts';
import type { Place } from '../../image/place.ts';
import type { OpenedLocation } from '../../oci/location.ts';
import type { MountCache } from '../data/cache.ts';
import { KeptReads } from '../data/kept-reads.ts';
import { LocalIndexes } from '../data/local-index.ts';
import { locate, type Asked } from './ask-ahead.ts';
import type { DaemonContext, LoadFormats } from './context.ts';
import type { ServeOptions } from './messages.ts';

export interface ImageSourceOptions {
  readonly loadFormats: LoadFormats;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onWarning: (text: string) => void;
  /** Of indexing an image that nobody has indexed. */
  readonly onProgress: (event: ConvertProgress) => void;
  /** Ends that, and asking for what the image is: the mount is not wanted any more. */
  readonly signal: AbortSignal;
  readonly asked?: DaemonContext['asked'] | undefined;
}

/**
 * Where a mount's image is. Opened when it is first needed, which for a daemon that takes over is the first read that cannot be
 * answered from the cache; a registry that cannot be reached then is tried again with the next one.
 */
export class ImageSource {
  readonly #serve: ServeOptions;
  readonly #options: ImageSourceOptions;
  readonly #indexes: LocalIndexes;
  readonly #reads = new KeptReads();
  /** Of the manifest: what the name leads to when it is first asked, and nothing else later. */
  #digest: string | undefined;
  #opening: Promise<OpenImage> | undefined;
  #location: OpenedLocation | undefined;
  /** Used up by the first who opens the image. */
  #asked: Promise<Asked | undefined> | undefined;
  #closed = false;

  constructor(serve: ServeOptions, cache: MountCache, options: ImageSourceOptions) {
    this.#serve = serve;
    this.#indexes = new LocalIndexes(cache);
    this.#options = options;
    options.asked?.hear(options.onWarning);
    // What is wrong with the location is found again by who asks for it.
    this.#asked = options.asked?.answer.catch(() => undefined);
    this.#digest = serve.planned?.digest;
  }

  /** Shared by all who ask while it goes on; failures are not kept. */
  readonly open = (): Promise<OpenImage> => {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  };

  async close(): Promise<void> {
    this.#closed = true;
    this.#reads.close();
    await this.#opening?.catch(() => undefined);
    await this.#location?.store.close();
  }

  /** From now on it is asked for content. */
  planned(): void {
    this.#reads.stop();
  }

  /** Holds to a plan that was made before the image could be asked. */
  pin(digest: string): void {
    this.#digest = digest;
  }

  /** Where it is looked for; nothing is asked yet. */
  async place(): Promise<Place> {
    const { image, registry } = this.#serve;
    const { env, onWarning } = this.#options;
    this.#location ??= (await this.#asked)?.location ?? (await locate({ image, registry }, env, onWarning));
    return this.#location;
  }

  async #open(): Promise<OpenImage> {
    if (this.#closed) throw new LazypullError('CANCELLED', 'the mount has ended');
    const { image: name, platform } = this.#serve;
    const { signal, onWarning, onProgress } = this.#options;
    const progress = (event: ConvertProgress): void => {
      if (event.type === 'total') onWarning(`${name} is in no format that is read lazily, and nobody has indexed it: all of it is read once, ${event.bytes} bytes, and kept`);
      onProgress(event);
    };
    const { store: remote, reference } = await this.place();
    const root = (await this.#asked)?.root;
    this.#asked = undefined;
    if (root instanceof LazypullError) throw root;
    const store = this.#indexes.over(this.#reads.over(remote));
    // They are loaded while the documents are on their way.
    const loading = this.#options.loadFormats();
    loading.catch(() => undefined);
    const options = { signal, referrers: true, ...(platform ? { platform } : {}) };
    const wanted = this.#digest;
    const named = await openImage({ store, reference }, loading, { ...options, ...(root && { root }) }).catch((error: unknown) => {
      // The tag may be gone; the image need not be.
      if (wanted === undefined || !(error instanceof LazypullError) || error.code !== 'NOT_FOUND') throw error;
      return undefined;
    });
    const image = named && (wanted === undefined || named.descriptor.digest === wanted) ? named : await openImage({ store, reference: wanted as string }, loading, options);
    if (wanted !== undefined && image.descriptor.digest !== wanted) throw new LazypullError('NOT_FOUND', `${name} is another image now, and the mounted one (${wanted}) is not there`);
    this.#digest = image.descriptor.digest;
    return this.#indexes.complete(image, { formats: await loading, signal, progress, onWarning });
  }
}
