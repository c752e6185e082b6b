import { mkdirSync } from 'node:fs';
import { LazypullError, throwIfAborted } from '../../core/errors.ts';
import { formatPlatform } from '../../oci/platform.ts';
import { defaultWay, mountFuse, openFuse, setReadAhead } from '../fuse/mount.ts';
import { Ahead } from './ahead.ts';
import type { Channel } from './channel.ts';
import { fetchAhead } from './fetch-ahead.ts';
import { rebuiltState } from './first-state.ts';
import type { How } from './clear.ts';
import { serveControl, type ControlRequest, type ControlServer } from './control.ts';
import type { DaemonContext } from './context.ts';
import { errorFields, type Log } from './log.ts';
import { FUSE_FD, sendable, type Order, type ServeOptions, type ToDaemon, type ToStarter } from './messages.ts';
import { throttled } from './throttled.ts';
import { serveMetrics, type MetricsServer } from './metrics-server.ts';
import { MountFolder } from './mount-folder.ts';
import type { MountPlan } from '../data/types.ts';
import { plannedAs } from './prepare-plan.ts';
import { awaitEnd, isAlive, ownMark, type ProcessMark } from './processes.ts';
import { recordOf } from './show.ts';
import { Serving } from './serving.ts';
import { readState, writeState, type MountRecord, type MountState } from './state.ts';
import { SupervisorLink } from './supervisor-link.ts';
import { unmountElsewhere } from './unmount.ts';

/** How often it is looked whether the process that the mount depends on is still there. */
const LEASH_MS = 500;
/** For a supervisor that was told to end. */
const LET_GO_MS = 2000;

/**
 * With a round trip for each request, large reads are what reading lives on that nobody has foreseen. Where somebody has said what will be
 * read, that is on its way already, and what the kernel guesses is mostly fetched, and waited for, in vain: until all of it has come.
 */
const READ_AHEAD_KIB = { unknown: 1024, listed: 32 };

/** Why a daemon comes to its end. */
type Ending =
  /** The mount is gone: whatever belongs to it is taken away. */
  | { readonly kind: 'unmounted' }
  /** Another daemon goes on. */
  | { readonly kind: 'replaced' };

/** Serves one mount: from its beginning, or from where another daemon has left it. */
export class Daemon {
  readonly #options: ServeOptions;
  readonly #context: DaemonContext;
  readonly #folder: MountFolder;
  readonly #serving: Serving;
  readonly #log: Log;
  #state: MountState | undefined;
  #link: SupervisorLink | undefined;
  #control: ControlServer | undefined;
  #metrics: MetricsServer | undefined;
  #ahead: Ahead | undefined;
  #aheadOver: Promise<void> | undefined;
  #leash: NodeJS.Timeout | undefined;
  #stopping = false;
  /** Unmounting that goes on. */
  #stops: Promise<unknown> = Promise.resolve();

  constructor(options: ServeOptions, context: DaemonContext) {
    this.#options = options;
    this.#context = context;
    this.#log = context.log;
    this.#folder = new MountFolder(options.folder);
    this.#serving = new Serving(options, context);
  }

  /** A new mount, for a process that waits for it at the other end of the pipe. */
  async serve(pipe: Channel<ToStarter, ToDaemon>, owner: ProcessMark): Promise<void> {
    const gone = new AbortController();
    let taken = false;
    void pipe.ended.then(() => taken || gone.abort());
    const either = AbortSignal.any([gone.signal, this.#context.signal]);
    try {
      await this.#begin(pipe, owner, either);
      taken = true;
    } catch (error) {
      this.#log.error('not-mounted', errorFields(error));
      pipe.send({ type: 'failed', error: sendable(gone.signal.aborted ? new LazypullError('CANCELLED', 'cancelled') : error) });
      await this.#takeBack();
      await pipe.close();
      return;
    }
    await pipe.close();
    await this.#run();
  }

  async #begin(pipe: Channel<ToStarter, ToDaemon>, owner: ProcessMark, signal: AbortSignal): Promise<void> {
    const { backend, writable, dir, why } = this.#options;
    const warn = (text: string): void => pipe.send({ type: 'warning', text });
    const progress = throttled((event) => pipe.send({ type: 'progress', event }));
    // The supervisor gets ready while the image is looked at; where fusermount3 opens the connection, it has to wait for that.
    const early = defaultWay() === 'fusermount' ? undefined : openFuse();
    if (early !== undefined) this.#link = SupervisorLink.start(this.#options, early, 0, this.#log);
    const plan = await this.#serving.prepare({ signal, warn, progress });
    throwIfAborted(signal);
    // There is time until somebody reads.
    this.#ahead = this.#newAhead();
    this.#ahead.begin();
    const target = backend === 'erofs' ? this.#folder.devices : writable ? this.#folder.lower : dir;
    if (target !== dir) mkdirSync(target, { recursive: true, mode: 0o700 });
    const readAheadKib = this.#readAhead(plan);
    const mounted = await mountFuse(target, { readAheadKib, ...(backend === 'erofs' ? { allowOther: false } : {}), ...(early === undefined ? {} : { fd: early }) });
    const fuse = recordOf(target, 'fuse');
    const known = readState(this.#folder);
    this.#state = {
      ...(known as MountState),
      digest: plan.digest,
      ...(plan.platform ? { platform: formatPlatform(plan.platform) } : {}),
      backend,
      why,
      mounts: [fuse],
      daemon: ownMark(),
      owner,
      ...(typeof this.#options.log === 'string' ? { log: this.#options.log } : {}),
    };
    writeState(this.#folder, this.#state);
    await this.#serving.start(mounted.fd, false);
    this.#link ??= SupervisorLink.start(this.#options, mounted.fd, 0, this.#log);
    pipe.send({ type: 'served', digest: plan.digest, ...(plan.metadataFile === undefined ? {} : { metadata: plan.metadataFile }), devices: plan.devices.length, fuse, readAheadKib });
    const supervisor = await this.#link.watching;
    this.#link.serve({ ...this.#options, planned: plannedAs(plan) });
    const answer = await pipe.receive();
    if (answer?.type !== 'mounted') throw new LazypullError('CANCELLED', 'cancelled');
    this.#update({ mounts: [...answer.mounts], supervisor });
    await this.#open();
    pipe.send({ type: 'ready', config: Buffer.from(plan.config).toString('base64'), ...(this.#metrics ? { metrics: this.#metrics.url } : {}) });
    if ((await pipe.receive())?.type !== 'taken') throw new LazypullError('CANCELLED', 'cancelled');
    throwIfAborted(signal);
    const { owner: starter, ...rest } = this.#state;
    this.#state = { ...rest, phase: 'ready', ...(this.#options.leash && starter ? { owner: this.#options.leash } : {}) };
    writeState(this.#folder, this.#state);
  }

  #newAhead(): Ahead {
    return new Ahead(this.#serving, this.#options, this.#log, { prefetched: () => this.#foreseenIsHere(), detached: (mounts) => this.#detached(mounts) });
  }

  /** What is read from now on nobody has foreseen. */
  #foreseenIsHere(): void {
    if (this.#options.record !== undefined) return;
    for (const { type, device, bdi = device } of this.#state?.mounts ?? []) if (type === this.#options.backend) setReadAhead(bdi, READ_AHEAD_KIB.unknown);
  }

  /** What the kernel may read beyond what somebody asks for. */
  #readAhead({ devices }: MountPlan): number {
    const { prefetch, imagePrefetch, record } = this.#options;
    if (record !== undefined) return 0;
    const listed = prefetch.length > 0 || (imagePrefetch && devices.some(({ ahead = [] }) => ahead.length > 0));
    return listed ? READ_AHEAD_KIB.listed : READ_AHEAD_KIB.unknown;
  }

  /** A mount that stands, in place of a daemon that is gone or about to go. */
  async resume(order: Extract<Order, { role: 'resume' }>, link: SupervisorLink): Promise<void> {
    this.#link = link;
    try {
      await this.#serving.prepare({ signal: this.#context.signal, warn: (text) => this.#log.warning('warning', { text }), progress: () => undefined });
      if (order.standBy && !(await link.standBy())) return;
      // Readers matter more than bookkeeping: what cannot be read is made anew.
      this.#state = readState(this.#folder) ?? rebuiltState(this.#options);
      await this.#serving.start(FUSE_FD, true);
      this.#update({ daemon: ownMark(), supervisor: order.supervisor, restarts: order.restarts });
      link.serving();
      await this.#open();
    } catch (error) {
      link.failed(error);
      throw error;
    }
    this.#log.info('resumed', { restarts: order.restarts });
    await this.#run();
  }

  /** Everything besides answering reads. */
  async #open(): Promise<void> {
    const { metricsListen } = this.#options;
    // A port that was chosen once stays: whoever scrapes it knows no other.
    const listen = this.#state?.metrics ?? metricsListen;
    if (listen !== undefined) {
      this.#metrics = await this.#unless(() => serveMetrics(listen, () => this.#serving.metrics(this.#state as MountState)));
      if (this.#metrics) this.#update({ metrics: this.#metrics.address });
    }
    this.#control = await this.#unless(() => serveControl(this.#folder.control, (request) => this.#answer(request)));
    const { leash } = this.#options;
    if (leash) {
      this.#leash = setInterval(() => {
        if (isAlive(leash)) return;
        clearInterval(this.#leash);
        this.#stopSoon();
      }, LEASH_MS);
    }
  }

  /** What fails for a mount that stands is no reason to let it down. */
  async #unless<T>(open: () => Promise<T>): Promise<T | undefined> {
    try {
      return await open();
    } catch (error) {
      if (this.#state?.phase === 'starting') throw error;
      this.#log.error('not-listening', errorFields(error));
      return undefined;
    }
  }

  /** Until the end. */
  async #run(): Promise<void> {
    const { signal } = this.#context;
    const onSignal = (): void => this.#stopSoon();
    signal.addEventListener('abort', onSignal, { once: true });
    if (signal.aborted) onSignal();
    const link = this.#link as SupervisorLink;
    link.onStop = onSignal;
    link.onSupervisor = (supervisor) => this.#update({ supervisor });
    this.#ahead ??= this.#newAhead();
    this.#aheadOver = this.#ahead.run();
    let ending: Ending;
    try {
      ending = await Promise.race([
        this.#serving.ended.then((): Ending => ({ kind: 'unmounted' })),
        link.left.then((): Ending => ({ kind: 'replaced' })),
      ]);
    } finally {
      signal.removeEventListener('abort', onSignal);
    }
    this.#log.info(ending.kind);
    await this.#end(ending);
  }

  async #answer(request: ControlRequest): Promise<unknown> {
    switch (request.verb) {
      case 'status':
        return { ...(await this.#serving.status()), ...(this.#ahead ? { ahead: this.#ahead.state } : {}) };
      case 'prefetch':
        return fetchAhead(this.#serving.content, request.paths, request.all);
      case 'restart':
        await (this.#link as SupervisorLink).replace();
        return { restarting: true };
      case 'stop':
        await this.#stop(request.how);
        return { stopped: true };
    }
  }

  /** Takes the mounts away; serving ends when the last user has left. RemoteError with EBUSY when `clean` is not possible. */
  #stop(how: How): Promise<void> {
    const run = this.#takeAway(how);
    this.#stops = Promise.allSettled([this.#stops, run]);
    return run;
  }

  /** Because of a signal: nobody waits for the answer. */
  #stopSoon(): void {
    this.#stop('lazy').catch((error: unknown) => this.#log.error('not-unmounted', errorFields(error)));
  }

  async #takeAway(how: How): Promise<void> {
    if (this.#stopping && how !== 'force') return;
    const { mounts } = this.#state as MountState;
    // The other two cannot be refused.
    if (how === 'clean') await unmountElsewhere(this.#options.program, mounts, how);
    this.#log.info('stopping', { how });
    if (how === 'force') await this.#letGo();
    else this.#goDown();
    if (how !== 'clean') await unmountElsewhere(this.#options.program, mounts, how);
  }

  /** Nobody is to take over any more. */
  #goDown(): void {
    this.#stopping = true;
    this.#link?.bye();
    this.#ahead?.stop();
    this.#update({ phase: 'stopping' });
  }

  /** Ends the connection, which goes with its last descriptor: whoever waits for a read gets an error. */
  async #letGo(): Promise<void> {
    const supervisor = this.#state?.supervisor;
    this.#goDown();
    await this.#serving.abort();
    await awaitEnd([supervisor], LET_GO_MS);
  }

  /** The kernel reads local files now. */
  #detached(mounts: readonly MountRecord[]): void {
    this.#update({ phase: 'detached', mounts: [...mounts] });
    this.#link?.bye();
    this.#log.info('detached');
  }

  #update(change: Partial<MountState>): void {
    this.#state = { ...(this.#state as MountState), ...change };
    writeState(this.#folder, this.#state);
  }

  async #end({ kind }: Ending): Promise<void> {
    clearInterval(this.#leash);
    this.#ahead?.stop();
    await this.#stops;
    await this.#control?.close();
    await this.#metrics?.close();
    // A mount that has just been detached is over before it is known to be.
    await this.#aheadOver;
    await this.#serving.close();
    if (kind === 'replaced') return;
    this.#link?.bye();
    if (this.#state?.phase === 'detached') {
      const { daemon: _daemon, supervisor: _supervisor, metrics: _metrics, ...rest } = this.#state;
      writeState(this.#folder, rest);
      return;
    }
    this.#log.close();
    this.#folder.remove();
  }

  /** Undoes a mount that did not come to stand. */
  async #takeBack(): Promise<void> {
    this.#link?.bye();
    this.#ahead?.stop();
    const mounts = this.#state?.mounts ?? [];
    if (mounts.length > 0) await unmountElsewhere(this.#options.program, mounts, 'force').catch((error: unknown) => this.#log.error('not-unmounted', errorFields(error)));
    clearInterval(this.#leash);
    await this.#control?.close();
    await this.#metrics?.close();
    await this.#serving.close().catch((error: unknown) => this.#log.error('not-closed', errorFields(error)));
  }
}
