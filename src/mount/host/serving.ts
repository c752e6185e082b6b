import { closeSync } from 'node:fs';
import { LazypullError } from '../../core/errors.ts';
import { version } from '../../core/version.ts';
import type { ConvertProgress } from '../../image/convert-report.ts';
import { MountCache } from '../data/cache.ts';
import { openContent } from '../data/content.ts';
import type { ContentStats, MountContent, MountPlan } from '../data/types.ts';
import { FuseThread, startFuseSession, type FuseSession, type FuseStats } from '../fuse/session.ts';
import type { DaemonContext } from './context.ts';
import { ImageSource } from './image-source.ts';
import { errorFields, type Log } from './log.ts';
import type { ServeOptions } from './messages.ts';
import { metricsText } from './metrics.ts';
import { preparePlan, type PrepareOptions } from './prepare-plan.ts';
import { Recorder } from './recorder.ts';
import { settleReport } from './settle-report.ts';
import { ReadTimes, wasLogged, watchReads } from './slow-reads.ts';
import type { MountState } from './state.ts';

/** What `ps` shows of a daemon; bytes, seconds. */
export interface Status {
  readonly uptime: number;
  readonly requests: number;
  readonly fetchedBytes: number;
  readonly localBytes: number;
  readonly bytes: number;
  readonly complete: boolean;
  readonly errors: number;
  readonly rss: number;
  readonly content: ContentStats;
  readonly fuse: FuseStats;
}

/** The parts that answer reads, put together: plan and content of the image, its cache, and the thread that talks to the kernel. */
export class Serving {
  readonly #options: ServeOptions;
  readonly #context: DaemonContext;
  readonly #log: Log;
  readonly #times = new ReadTimes();
  readonly #began = Date.now();
  /** Bytes of layers that were fetched to index the image, which is when their content came along. */
  #indexed = 0;
  #image: ImageSource | undefined;
  #cache: MountCache | undefined;
  #plan: MountPlan | undefined;
  #content: MountContent | undefined;
  #session: FuseSession | undefined;
  readonly #recorder: Recorder | undefined;
  /** Until there is a session. */
  #thread: FuseThread | undefined;
  #fd: number | undefined;
  /** Warnings go to who waits for the mount, and to the log when nobody does. */
  #warn: (text: string) => void;

  constructor(options: ServeOptions, context: DaemonContext) {
    this.#options = options;
    this.#context = context;
    this.#log = context.log;
    this.#recorder = options.record === undefined ? undefined : new Recorder();
    this.#warn = (text) => this.#log.warning('warning', { text });
  }

  get content(): MountContent {
    if (!this.#content) throw new LazypullError('INTERNAL', 'there is no content yet');
    return this.#content;
  }

  get plan(): MountPlan {
    if (!this.#plan) throw new LazypullError('INTERNAL', 'there is no plan yet');
    return this.#plan;
  }

  /** Resolves when the mount is gone; rejects when serving failed. */
  get ended(): Promise<unknown> {
    return (this.#session as FuseSession).ended;
  }

  /** Everything up to the point where reads can be answered. A mount that stands already needs no network for it. */
  async prepare({ signal, warn, progress }: PrepareOptions): Promise<MountPlan> {
    const { cacheDir, cacheBytes, readTimeout } = this.#options;
    const { env, loadFormats } = this.#context;
    const later = this.#warn;
    this.#warn = warn;
    settleReport();
    this.#thread = new FuseThread();
    this.#cache = await MountCache.open(cacheDir, { maxBytes: cacheBytes, onProblem: (error) => this.#log.warning('cache', errorFields(error)) });
    this.#image = new ImageSource(this.#options, this.#cache, { env, loadFormats, signal, asked: this.#context.asked, onWarning: (text) => this.#warn(text), onProgress: (event) => this.#along(event, progress) });
    this.#plan = await preparePlan(this.#options, this.#cache, this.#image, this.#context, { signal, warn, progress });
    this.#image.planned();
    this.#content = await openContent(this.#plan, this.#image.open, this.#cache, {
      loadFormats,
      readTimeout,
      onProblem: (error) => this.#log.warning('problem', errorFields(error)),
    });
    this.#warn = later;
    return this.#plan;
  }

  /** Answers reads of the FUSE connection from now on, which is closed by `close`. */
  async start(fd: number, resend: boolean): Promise<void> {
    this.#fd = fd;
    const answer = watchReads(this.content, this.#times, this.#log);
    const thread = this.#thread;
    this.#thread = undefined;
    this.#session = await startFuseSession({
      thread,
      fd,
      served: { shape: this.#options.backend === 'erofs' ? 'devices' : 'tree', metadata: this.plan.metadata, devices: this.#recorder?.devices(this.content.devices) ?? this.content.devices },
      answer: this.#recorder?.watch(answer) ?? answer,
      resend,
      onProblem: (error, about) => {
        if (!wasLogged(error)) this.#log.error('problem', { operation: about.operation, path: about.path, ...errorFields(error) });
      },
    });
  }

  async status(): Promise<Status> {
    // How much there is in all is worked out with the first question about a place.
    await this.content.locate(0, 0).catch(() => undefined);
    const content = this.content.stats();
    const sum = (of: (layer: ContentStats['layers'][number]) => number): number => content.layers.reduce((total, layer) => total + of(layer), 0);
    return {
      uptime: (Date.now() - this.#began) / 1000,
      requests: sum((layer) => layer.requests),
      fetchedBytes: this.#indexed + sum((layer) => layer.fetchedBytes),
      localBytes: sum((layer) => layer.localBytes),
      bytes: sum((layer) => layer.bytes),
      complete: content.complete,
      errors: sum((layer) => layer.errors),
      rss: process.memoryUsage.rss(),
      content,
      fuse: (this.#session as FuseSession).stats(),
    };
  }

  metrics(state: MountState): string {
    const { user, system } = process.cpuUsage();
    return metricsText({
      ...state,
      version,
      content: this.content.stats(),
      indexedBytes: this.#indexed,
      fuse: (this.#session as FuseSession).stats(),
      reads: this.#times,
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
    });
  }

  /** Closes the connection under whoever still waits. */
  async abort(): Promise<void> {
    await this.#session?.close();
    await this.#thread?.abandon();
    this.#closeFd();
  }

  /** Leaves the mount as it is. */
  async close(): Promise<void> {
    await this.abort();
    await this.#record();
    await this.#content?.close();
    await this.#image?.close();
    await this.#cache?.close();
  }

  /** What cannot be written is no reason not to end. */
  async #record(): Promise<void> {
    const { record, image } = this.#options;
    if (!this.#recorder || record === undefined || !this.#content) return;
    try {
      await this.#recorder.write(record, image, this.#content);
    } catch (error) {
      this.#log.error('not-recorded', errorFields(error));
    }
  }

  #along(event: ConvertProgress, progress: PrepareOptions['progress']): void {
    if (event.type === 'bytes') this.#indexed += event.packed;
    progress(event);
  }

  #closeFd(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
