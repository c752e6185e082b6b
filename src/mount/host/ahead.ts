import { setTimeout as wait } from 'node:timers/promises';
import { LazypullError, printable } from '../../core/errors.ts';
import type { Log } from './log.ts';
import { errorFields } from './log.ts';
import type { ServeOptions } from './messages.ts';
import { detach } from './detach.ts';
import type { Serving } from './serving.ts';
import type { MountRecord } from './state.ts';

/** Between two tries to fetch what could not be fetched; doubled each time. */
const FIRST_PAUSE_MS = 5000;
const LAST_PAUSE_MS = 300_000;

export type AheadState = 'prefetching' | 'filling' | 'waiting' | 'full' | 'detaching' | 'done' | 'stopped';

export interface AheadListener {
  /** All that was named is here, or will not come. */
  prefetched(): void;
  /** The kernel reads local files, by these mounts. */
  detached(mounts: readonly MountRecord[]): void;
}

/**
 * What is fetched before anybody asks: first what the image and the user name, then, if it is wanted, everything else. When all of it
 * is here, the mount is handed over to the kernel if that was asked for. Reads of users go before all this.
 */
export class Ahead {
  readonly #serving: Serving;
  readonly #options: ServeOptions;
  readonly #log: Log;
  readonly #tell: AheadListener;
  readonly #stop = new AbortController();
  /** What was begun before anybody could read. */
  #begun: Promise<void> | undefined;
  state: AheadState = 'prefetching';

  constructor(serving: Serving, options: ServeOptions, log: Log, tell: AheadListener) {
    this.#serving = serving;
    this.#options = options;
    this.#log = log;
    this.#tell = tell;
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Begins with what the image and the user name: for a mount that is about to stand. `run` goes on with it. */
  begin(): void {
    this.#begun = this.#prefetch();
    this.#begun.catch(() => undefined);
  }

  async run(): Promise<void> {
    try {
      const first = await this.#try(() => this.#first());
      this.#tell.prefetched();
      if (first) {
        if (!this.#options.fill || (await this.#try(() => this.#fill()))) {
          if (this.#options.detachWhenComplete) await this.#detach();
          this.state = 'done';
        }
      }
    } catch (error) {
      this.#log.error('detach-failed', errorFields(error));
    }
    if (this.#stop.signal.aborted) this.state = 'stopped';
  }

  #first(): Promise<void> {
    const begun = this.#begun ?? this.#prefetch();
    this.#begun = undefined;
    return begun;
  }

  async #prefetch(): Promise<void> {
    const { prefetch, imagePrefetch } = this.#options;
    if (prefetch.length === 0 && !imagePrefetch) return;
    const { unmatched, bytes, fetched } = await this.#serving.content.prefetch({ landmarks: imagePrefetch, paths: prefetch, signal: this.#stop.signal });
    for (const pattern of unmatched) this.#log.warning('prefetch-unmatched', { pattern: printable(pattern) });
    if (bytes > 0) this.#log.info('prefetched', { bytes, fetched });
  }

  async #fill(): Promise<void> {
    this.state = 'filling';
    await this.#serving.content.fill(this.#stop.signal);
    this.#log.info('filled');
  }

  /** Until it works; false when there is no point in trying again. */
  async #try(work: () => Promise<void>): Promise<boolean> {
    const { signal } = this.#stop;
    const before = this.state;
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
      try {
        await work();
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        this.#log.warning('fetch-ahead-failed', errorFields(error));
        if (error instanceof LazypullError && error.code === 'LIMIT') {
          this.state = 'full';
          return false;
        }
        this.state = 'waiting';
        await wait(pause, undefined, { signal }).catch(() => undefined);
        this.state = before;
      }
    }
    return false;
  }

  async #detach(): Promise<void> {
    const { content, plan } = this.#serving;
    await content.whenComplete();
    if (this.#stop.signal.aborted) return;
    this.state = 'detaching';
    const devices = await content.seal();
    if (plan.metadataFile === undefined) throw new LazypullError('IO', 'the tree is not in the cache');
    this.#tell.detached(await detach(this.#options, { metadata: plan.metadataFile, devices }));
  }
}
