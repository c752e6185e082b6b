import { mkdirSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { LazypullError, printable, throwIfAborted, wrapError } from '../../core/errors.ts';
import { formatPlatform, hostPlatform } from '../../oci/platform.ts';
import { formatLocation, parseLocation } from '../../oci/location.ts';
import { defaultCacheDir } from '../data/folder.ts';
import { chooseBackend, type Choice } from './backend.ts';
import { firstState } from './first-state.ts';
import { clearAway } from './clear.ts';
import { isRefusal } from './kernel-calls.ts';
import { launchDaemon, launchInto, type Launched } from './launch.ts';
import { RemoteError, type Order, type ServeOptions, type ToStarter } from './messages.ts';
import type { MountFolder } from './mount-folder.ts';
import { checkFolder, checkNotHidden, mountPoint } from './mount-point.ts';
import { DEFAULT_CACHE_BYTES, DEFAULT_READ_TIMEOUT, type Mounted, type MountOptions } from './options.ts';
import { awaitEnd, markOf, ownMark, signalProcess } from './processes.ts';
import { runtimeFolders } from './runtime-folder.ts';
import { hide, mountErofs, mountOverlay } from './show.ts';
import { knownMounts, readState, writeState, type MountRecord, type MountState } from './state.ts';

/** For a process that was told to end. */
const END_MS = 5000;
/** For the first look into a mount that says it is served. */
const FIRST_LOOK_MS = 20_000;

/**
 * Mounts an image and resolves when it can be used (`launched`: by a daemon that was started already, and is this one's from now on); the processes that serve it go on by themselves. After a failure nothing is
 * mounted and nothing runs. USAGE for a folder that cannot be mounted on, UNSUPPORTED for a backend that cannot be had here, and
 * whatever opening the image says.
 */
export async function startMount(options: MountOptions, launched: Launched = launchDaemon(options)): Promise<Mounted> {
  try {
    return await start(options, launched);
  } catch (error) {
    await launched.abandon();
    throw error;
  }
}

async function start(options: MountOptions, launched: Launched): Promise<Mounted> {
  const env = options.env ?? process.env;
  const dir = mountPoint(options.dir);
  for (const { folder, state, health } of knownMounts(env)) {
    if (state.dir !== dir) continue;
    if (health === 'alive') throw new LazypullError('USAGE', `${printable(state.image)} is mounted here already: unmount it first`, { path: dir });
    await clearAway(folder, state);
  }
  checkFolder(dir);
  const location = parseLocation(options.image);
  const image = formatLocation(location.transport === 'oci' ? { ...location, folder: resolve(location.folder) } : location);
  const cacheDir = resolve(options.cacheDir ?? defaultCacheDir(env));
  checkNotHidden(dir, {
    'the program': options.program[0],
    'lazypull': options.program[1],
    'the cache': cacheDir,
    'the image': location.transport === 'oci' ? resolve(location.folder) : undefined,
    'the log': options.log === undefined ? undefined : resolve(options.log),
    'the list': options.record === undefined ? undefined : resolve(options.record),
    'the writable layer': options.upper === undefined ? undefined : resolve(options.upper),
    'the credentials file': options.registry?.authFile === undefined ? undefined : resolve(options.registry.authFile),
    'the file of certificates': options.registry?.tlsCa === undefined ? undefined : resolve(options.registry.tlsCa),
    'the folder of hosts.toml files': options.registry?.hostsDir === undefined ? undefined : resolve(options.registry.hostsDir),
    'the folder of the state': runtimeFolders(env)[0],
  });
  const { folder } = launched;
  const state = firstState(folder, {
    dir,
    image,
    cacheDir,
    platform: formatPlatform(options.platform ?? hostPlatform()),
    writable: options.rw === true || options.upper !== undefined,
    ...(options.upper === undefined ? {} : { upper: resolve(options.upper) }),
  });
  const attempt = new Attempt(options, launched, state);
  try {
    writeState(folder, state);
    checkAlone(folder, state, env);
    if (options.record !== undefined && options.backend === 'erofs') throw new LazypullError('USAGE', 'what is read can be recorded with the fuse backend only');
    const wanted = options.record === undefined ? (options.backend ?? 'auto') : 'fuse';
    const choice = await chooseBackend({ wanted, cacheDir, staging: folder.staging });
    try {
      return await attempt.run(choice, launched.process);
    } catch (error) {
      // Trying an empty image says a lot, but not all: the kernel may still refuse the real one.
      if (wanted !== 'auto' || choice.backend !== 'erofs' || !isRefusal(error, 'ENOTBLK', 'EINVAL', 'EPERM', 'ENODEV')) throw error;
      await attempt.abandon();
      writeState(folder, state);
      return await attempt.run({ backend: 'fuse', metadata: 'file', why: `erofs is not possible: ${error.message}` }, launchInto(folder, options.program, launched.log, image).process);
    }
  } catch (error) {
    await attempt.abandon();
    await clearAway(folder, readState(folder) ?? state);
    throw error;
  }
}

/** Of two that begin at the same time, one goes on. */
function checkAlone({ id }: MountFolder, { dir, mountedAt }: MountState, env: Readonly<Record<string, string | undefined>>): void {
  const rival = knownMounts(env).find(({ state }) => state.dir === dir && state.id !== id && (state.mountedAt < mountedAt || (state.mountedAt === mountedAt && state.id < id)));
  if (rival) throw new LazypullError('USAGE', `${printable(rival.state.image)} is being mounted here`, { path: dir });
}

/** One try to get an image mounted, with one backend. */
class Attempt {
  readonly #options: MountOptions;
  readonly #folder: MountFolder;
  readonly #log: string | number;
  readonly #state: MountState;
  #process: Launched['process'] | undefined;

  constructor(options: MountOptions, { folder, log }: Launched, state: MountState) {
    this.#options = options;
    this.#folder = folder;
    this.#log = log;
    this.#state = state;
  }

  async run(choice: Choice, { child, channel }: Launched['process']): Promise<Mounted> {
    this.#process = { child, channel };
    const serve = this.#serveOptions(choice);
    const { signal } = this.#options;
    throwIfAborted(signal);
    const order: Order = { role: 'serve', options: serve, owner: ownMark() };
    channel.send(order as never);
    const cancel = (): void => void channel.close();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      const served = await this.#await('served');
      const mounts = await this.#show(serve, served);
      channel.send({ type: 'mounted', mounts });
      const ready = await this.#await('ready');
      await firstLook(serve.dir);
      throwIfAborted(signal);
      channel.send({ type: 'taken' });
      await channel.close();
      return {
        id: this.#folder.id,
        dir: serve.dir,
        backend: choice.backend,
        why: choice.why,
        digest: served.digest,
        config: Buffer.from(ready.config, 'base64'),
        pid: child.pid as number,
        cacheDir: serve.cacheDir,
        log: typeof serve.log === 'string' ? serve.log : undefined,
        metrics: ready.metrics,
        folder: this.#folder.path,
      };
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  /** A daemon that has not been taken takes everything back by itself; one that does not is ended. */
  async abandon(): Promise<void> {
    await this.#process?.channel.close();
    const { daemon, supervisor } = readState(this.#folder) ?? {};
    const pid = this.#process?.child.pid;
    const marks = [daemon ?? (pid === undefined ? undefined : markOf(pid)), supervisor];
    if (await awaitEnd(marks, END_MS)) return;
    for (const mark of marks.toReversed()) signalProcess(mark, 'SIGKILL');
    await awaitEnd(marks, END_MS);
  }

  /** What the daemon has to say on the way is passed on. */
  async #await<T extends ToStarter['type']>(type: T): Promise<Extract<ToStarter, { type: T }>> {
    for (;;) {
      const message = await this.#process?.channel.receive();
      if (!message) {
        throwIfAborted(this.#options.signal);
        throw new LazypullError('INTERNAL', `the process that serves the mount ended early${this.#lastWords()}`);
      }
      if (message.type === 'failed') throw new RemoteError(message.error);
      if (message.type === type) return message as Extract<ToStarter, { type: T }>;
      if (message.type === 'warning') this.#options.onWarning?.(message.text);
      else if (message.type === 'progress') this.#options.onProgress?.(message.event);
    }
  }

  /** Makes visible what is served. */
  async #show(serve: ServeOptions, served: Extract<ToStarter, { type: 'served' }>): Promise<readonly MountRecord[]> {
    const { lower, devices } = this.#folder;
    let top = served.fuse;
    if (serve.backend === 'erofs') {
      const target = serve.writable ? lower : serve.dir;
      mkdirSync(lower, { recursive: true, mode: 0o700 });
      top = await mountErofs({ metadata: served.metadata === undefined || serve.metadata === 'fuse' ? join(devices, '0') : served.metadata, folder: devices, devices: served.devices, target, loop: serve.metadata === 'loop', readAheadKib: served.readAheadKib });
      // From here on the kernel holds the devices, and nobody else is to walk into them.
      await hide(devices);
    }
    if (!serve.writable) return [top];
    const place = serve.upper ?? this.#folder.writable;
    const overlay = await mountOverlay({ lower, upper: join(place, 'upper'), work: join(place, 'work'), target: serve.dir });
    await hide(lower);
    return [overlay];
  }

  #lastWords(): string {
    try {
      const last = readFileSync(this.#folder.log, 'utf8').trim().split('\n').at(-1) ?? '';
      return last === '' ? '' : `: ${last.slice(0, 500)}`;
    } catch {
      return '';
    }
  }

  #serveOptions({ backend, metadata, why }: Choice): ServeOptions {
    const { program, platform, registry = {}, cacheBytes, prefetch = [], imagePrefetch = true, detachWhenComplete = false, metricsListen, readTimeout, leash, record } = this.#options;
    const { dir, image, writable, upper, cacheDir, mountedAt } = this.#state;
    if (detachWhenComplete && backend !== 'erofs') throw new LazypullError('UNSUPPORTED', `a mount can be detached from its server with the erofs backend only (the fuse backend is used: ${why})`);
    if (detachWhenComplete && writable) throw new LazypullError('USAGE', 'a mount with a writable layer cannot be detached from its server');
    const { tlsCa, authFile, hostsDir, ...rest } = registry;
    return {
      folder: this.#folder.path,
      program,
      image,
      ...(platform === undefined ? {} : { platform }),
      registry: { ...rest, ...(tlsCa === undefined ? {} : { tlsCa: resolve(tlsCa) }), ...(authFile === undefined ? {} : { authFile: resolve(authFile) }), ...(hostsDir === undefined ? {} : { hostsDir: resolve(hostsDir) }) },
      dir,
      backend,
      why,
      metadata,
      writable,
      ...(upper === undefined ? {} : { upper }),
      cacheDir,
      cacheBytes: cacheBytes ?? DEFAULT_CACHE_BYTES,
      prefetch,
      imagePrefetch,
      ...(record === undefined ? {} : { record: resolve(record) }),
      fill: this.#options.fill === true || detachWhenComplete,
      detachWhenComplete,
      ...(metricsListen === undefined ? {} : { metricsListen }),
      readTimeout: readTimeout ?? DEFAULT_READ_TIMEOUT,
      log: this.#log,
      ...(leash === true ? { leash: ownMark() } : {}),
      mountedAt,
    };
  }
}

/** Waits until the mount's root can be seen. */
async function firstLook(dir: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new LazypullError('IO', `the mount does not answer within ${FIRST_LOOK_MS / 1000} s`, { path: dir })), FIRST_LOOK_MS);
  });
  try {
    await Promise.race([stat(dir), late]);
  } catch (error) {
    throw wrapError(error, 'IO', 'the mount cannot be looked into', { path: dir });
  } finally {
    clearTimeout(timer);
  }
}
