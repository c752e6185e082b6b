import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { LazypullError, printable, throwIfAborted, wrapError } from '../../core/errors.ts';
import { parseConfig } from '../../oci/documents.ts';
import { containerMounts } from './container-mounts.ts';
import { isMapped, readContext, type Context } from './context.ts';
import { parseAssignment, parseEnvFile, type Assignment } from './environment.ts';
import { startGuard } from './guard.ts';
import { runConfig, type RunConfig } from './image-config.ts';
import { launch } from './launch.ts';
import { defaultHostname, isHostname, networkFiles } from './network-files.ts';
import { planProcess } from './process.ts';
import { readInRoot } from './read-in-root.ts';
import { reapRuns } from './reap.ts';
import { checkRunsHere } from './runs-here.ts';
import { findRuntime, searchPath, type Runtime, type WantedRuntime } from './runtime.ts';
import { Scratch } from './scratch.ts';
import { runtimeSpec, type ContainerPlan } from './spec.ts';
import { standardMounts } from './standard-mounts.ts';
import type { TakeSignals } from './supervise.ts';
import { resolveUser, type ContainerUser } from './user.ts';
import { checkVolumes, parseVolume } from './volumes.ts';
import { Undo } from './undo.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** An image whose files can be seen in a folder. */
export interface LowerMount {
  /** The image's config document. */
  readonly config: Uint8Array;
  unmount(): Promise<void>;
}

/** What to run, and how. Whatever is left out is as the image has it. */
export interface RunOptions {
  /** For messages. */
  readonly image: string;
  /** Mounts the image at an empty folder. */
  readonly mount: (dir: string, signal: AbortSignal | undefined) => Promise<LowerMount>;
  /** Takes an image away that an earlier run, killed since, has left mounted. */
  readonly unmountAbandoned: (dir: string) => Promise<void>;
  /** The command, with its first arguments, that runs `enterContainer` with the plan in the file it is given. */
  readonly initProgram: readonly string[];
  /** In place of the image's Cmd. */
  readonly command?: readonly string[];
  /** In place of the image's Entrypoint and Cmd. */
  readonly entrypoint?: string;
  /** `NAME=value`, or `NAME` for the value that it has here. */
  readonly env?: readonly string[];
  /** Files of such lines; `env` goes before them. */
  readonly envFiles?: readonly string[];
  /** `HOST:CONTAINER[:ro]`. */
  readonly volumes?: readonly string[];
  /** The machine's network, or none but the container's own loopback; default `host`. */
  readonly net?: 'host' | 'none';
  /** `user[:group]`, names or numbers. */
  readonly user?: string;
  readonly workdir?: string;
  readonly hostname?: string;
  readonly readonly?: boolean;
  /** The container gets a terminal of its own, in place of our standard streams, which must be one. */
  readonly terminal?: boolean;
  /** Default `auto`: runc or crun if they are there, otherwise namespaces and no more. */
  readonly runtime?: WantedRuntime;
  /** Variables of this process. */
  readonly ownEnv: Environment;
  readonly takeSignals?: TakeSignals;
  readonly onWarning?: (text: string) => void;
  /** Before the container runs nothing of it stays; afterwards it is asked to stop, and made to ten seconds later. */
  readonly signal?: AbortSignal;
  /** Nobody waits for it any more: whatever there is of it ends at once. */
  readonly abandoned?: AbortSignal;
}

/** Docker's, and enough for who raises it; some programs go through all numbers up to it. */
const MOST_OPEN_FILES = 1_048_576;

/**
 * Runs an image: its mounted tree with a writable layer over it as root of a container, in the foreground, with our own standard
 * streams. Resolves with the exit status of its process (128 and the signal's number after one), 127 when there is no such program
 * and 126 when it cannot be executed, as runtimes have it. Nothing of the container stays, whatever happens.
 */
export async function runImage(options: RunOptions): Promise<number> {
  const { ownEnv, onWarning = () => undefined, net = 'host', terminal = false } = options;
  const { abandoned } = options;
  // What is done before there is a container can only be called off.
  const signal = abandoned && options.signal ? AbortSignal.any([abandoned, options.signal]) : (abandoned ?? options.signal);
  const context = readContext();
  if (!context.mayMount) throw new LazypullError('UNSUPPORTED', 'running an image needs root, or a user namespace in which to be root: unshare -Urm');
  if (terminal && !isatty(0)) throw new LazypullError('USAGE', '-t: standard input is no terminal');
  const volumes = (options.volumes ?? []).map((text) => parseVolume(text, process.cwd()));
  checkVolumes(volumes);
  const wanted = assignments(options);
  if (options.hostname !== undefined && !isHostname(options.hostname)) throw new LazypullError('USAGE', `not a host name: ${printable(options.hostname.slice(0, 100))}`);
  throwIfAborted(signal);
  // Both take their time, and neither needs the other.
  const finding = findRuntime(options.runtime ?? 'auto', ownEnv, onWarning);
  finding.catch(() => undefined);
  const reaping = reapRuns({ env: ownEnv, unmount: options.unmountAbandoned }).then((all) => {
    for (const { image, problem } of all) if (problem !== undefined) onWarning(`what is left of a run of ${image || 'an image'} that was killed cannot be removed: ${problem}`);
  });
  const undo = new Undo();
  try {
    const scratch = Scratch.create(ownEnv, options.image);
    const guard = startGuard(scratch.path, scratch.id, searchPath(ownEnv));
    undo.add(() => guard.dismiss());
    undo.add(() => scratch.remove());
    const lower = await options.mount(scratch.lower, signal);
    undo.add(() => lower.unmount());
    const runtime = await finding;
    if (runtime) {
      scratch.update({ runtime: runtime.path });
      guard.runtime(runtime.path);
    }
    const config = runConfig(parseConfig(lower.config));
    const foreign = checkRunsHere(config);
    if (foreign !== undefined) onWarning(foreign);
    const user = await findUser(options.user ?? config.user, scratch, context, signal);
    const hostname = options.hostname ?? defaultHostname(net, scratch.id);
    const { process: program, ignored } = planProcess(config, user, {
      command: options.command ?? [],
      env: wanted,
      hostname,
      terminal,
      ...(options.entrypoint === undefined ? {} : { entrypoint: options.entrypoint }),
      ...(options.workdir === undefined ? {} : { workdir: options.workdir }),
    });
    if (ignored.length > 0) onWarning(`the image's environment has entries that assign nothing: ${ignored.slice(0, 3).map((text) => printable(JSON.stringify(text.slice(0, 40)))).join(', ')}`);
    const readonly = options.readonly ?? false;
    const { mounts, layers } = await containerMounts({ scratch, volumes, imageVolumes: config.volumes, readonly, userNamespace: context.userNamespace, files: networkFiles(net, hostname) });
    const size = terminal ? terminalSize() : undefined;
    const plan: ContainerPlan = { process: program, hostname, readonly, net, mounts, openFiles: openFiles(), ...(size ? { consoleSize: size } : {}) };
    throwIfAborted(signal);
    writePlan(scratch, plan, { runtime, context, config });
    return await launch({ scratch, runtime, context, plan, layers, guard, config, ownEnv, initProgram: options.initProgram, takeSignals: options.takeSignals, signal: options.signal, abandoned, onWarning });
  } finally {
    // The program has ended as it has; what is left of it is another matter, and the next run's.
    for (const failure of await undo.all()) onWarning(`cleaning up failed: ${wrapError(failure, 'IO', 'unexpected').message}`);
    await reaping;
  }
}

function assignments({ env = [], envFiles = [], ownEnv }: RunOptions): readonly Assignment[] {
  const fromFiles = envFiles.flatMap((path) => {
    try {
      return parseEnvFile(readFileSync(path, 'utf8'), ownEnv, path);
    } catch (error) {
      throw wrapError(error, 'IO', '--env-file: cannot read it', { path });
    }
  });
  return [...fromFiles, ...env.map((text) => parseAssignment(text, ownEnv))];
}

async function findUser(spec: string, scratch: Scratch, context: Context, signal: AbortSignal | undefined): Promise<ContainerUser> {
  const [passwd, group] = await Promise.all(['/etc/passwd', '/etc/group'].map((path) => readInRoot(scratch.lower, path, signal)));
  const user = resolveUser(spec, passwd ?? '', group ?? '');
  const { uids, gids } = context.ids;
  if (!isMapped(uids, user.uid) || !isMapped(gids, user.gid)) {
    throw new LazypullError('UNSUPPORTED', `the container is to run as user ${user.uid} and group ${user.gid}, which do not exist in this user namespace; run it as root, or choose with --user`);
  }
  return { ...user, groups: user.groups.filter((gid) => isMapped(gids, gid)) };
}

/** What is to be run, for whoever runs it. */
function writePlan(scratch: Scratch, plan: ContainerPlan, about: { readonly runtime: Runtime | undefined; readonly context: Context; readonly config: RunConfig }): void {
  const { runtime, context, config } = about;
  const spec = runtime
    ? runtimeSpec(plan, { context, config, seccomp: runtime.seccomp, root: 'rootfs' })
    // Control groups are the runtimes' business.
    : { container: plan, mounts: [...standardMounts(context, plan.mounts).filter(({ type }) => type !== 'cgroup'), ...plan.mounts], root: scratch.rootfs, pidFile: scratch.pidFile, setGroups: context.setGroups };
  writeFileSync(join(scratch.bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
}

/** Of standard input. Node knows that of output streams only, and those may be something else. */
function terminalSize(): ContainerPlan['consoleSize'] {
  const { stdout } = spawnSync('stty', ['size'], { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' });
  const [height = 0, width = 0] = (stdout ?? '').trim().split(' ').map(Number);
  return height > 0 && width > 0 ? { height, width } : undefined;
}

function openFiles(): number {
  const [, hard] = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
  const limit = Number(hard);
  return Number.isSafeInteger(limit) ? Math.min(limit, MOST_OPEN_FILES) : MOST_OPEN_FILES;
}
