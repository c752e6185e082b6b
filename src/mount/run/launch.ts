import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LazypullError } from '../../core/errors.ts';
import { runQuietly } from '../host/kernel-calls.ts';
import { markOf } from '../host/processes.ts';
import type { Context } from './context.ts';
import type { Guard } from './guard.ts';
import type { RunConfig } from './image-config.ts';
import { overlayCommand, ROOT_LAYER, type WritableLayer } from './overlay.ts';
import { placeInRoot } from './place-in-root.ts';
import { findProgram, searchPath, startFailure, type Runtime } from './runtime.ts';
import type { Scratch } from './scratch.ts';
import { stopSignal, type ContainerPlan } from './spec.ts';
import { exitCodeOf, readPid, sendSignal, supervise, type TakeSignals } from './supervise.ts';

export interface LaunchOptions {
  readonly scratch: Scratch;
  /** Undefined for namespaces alone. */
  readonly runtime: Runtime | undefined;
  readonly context: Context;
  readonly plan: ContainerPlan;
  /** Besides that of the root. */
  readonly layers: readonly WritableLayer[];
  readonly guard: Guard;
  readonly config: Pick<RunConfig, 'stopSignal'>;
  readonly ownEnv: Readonly<Record<string, string | undefined>>;
  readonly initProgram: readonly string[];
  readonly takeSignals: TakeSignals | undefined;
  readonly signal: AbortSignal | undefined;
  readonly abandoned: AbortSignal | undefined;
  readonly onWarning: (text: string) => void;
}

/**
 * Its first child is the first process of the new process namespace. A shell, because it knows how to pass on an end by SIGKILL;
 * what it would say about that is nobody's business.
 */
const FIRST_PROCESS = ['/bin/sh', '-c', 'exec 3>&2 2>/dev/null; "$@" 2>&3 3>&-; exit $?', 'lazypull'];

/** Exit status when there is nothing to say but that it did not work. */
const FAILED = 125;

/** Runs a planned container to its end, and sees to it that it has one. */
export async function launch(options: LaunchOptions): Promise<number> {
  const { scratch, runtime, context, ownEnv, guard, onWarning } = options;
  const { stats } = await placeInRoot(scratch.lower, '/');
  if (!stats) throw new LazypullError('INTERNAL', 'the mounted image has no root', { path: scratch.lower });
  if (!runtime) onWarning('neither runc nor crun: the container is made of namespaces alone, without control groups and without a filter for system calls');
  else if (!runtime.seccomp) onWarning(`${runtime.name} ${runtime.version} cannot filter system calls: the container can make all of them`);
  const unshare = needed('unshare', ownEnv);
  needed('mount', ownEnv);
  const program = runtime ? runtimeCommand(scratch, runtime) : [unshare, '--pid', '--', ...FIRST_PROCESS, ...options.initProgram, join(scratch.bundle, 'config.json')];
  const overlay = overlayCommand({ scratch: scratch.path, memory: scratch.needsMemory, userNamespace: context.userNamespace, layers: [{ name: ROOT_LAYER, attributes: stats }, ...options.layers] }, program);
  const command = [unshare, '--mount', '--propagation', 'slave', ...(runtime ? [] : ['--ipc', '--uts', ...(options.plan.net === 'none' ? ['--net'] : [])]), '--', '/bin/sh', ...overlay];
  const [first, ...rest] = options.plan.process.terminal && !runtime ? onTerminal(command, options) : command;
  let launched: number | undefined;
  const ended = await supervise(first as string, rest, {
    env: { ...ownEnv, PATH: searchPath(ownEnv) },
    target: () => (runtime ? undefined : readPid(scratch.pidFile)),
    takeSignals: options.takeSignals,
    signal: options.signal,
    abandoned: options.abandoned,
    terminal: options.plan.process.terminal,
    stopSignal: stopSignal(options.config.stopSignal),
    kill: () => void killContainer(options, launched),
    onStart(pid) {
      launched = pid;
      guard.launched(pid);
      const mark = markOf(pid);
      if (mark) scratch.update({ launched: mark });
    },
  }).finally(() => removeContainer(options));
  if (readPid(scratch.pidFile) !== undefined || ended.signal || ended.code === 0) return exitCodeOf(ended);
  return runtime ? startFailure(readLog(scratch)) : FAILED;
}

function runtimeCommand(scratch: Scratch, { path }: Runtime): readonly string[] {
  return [path, '--root', scratch.runtimeState, '--log', scratch.runtimeLog, '--log-format', 'json', 'run', '--bundle', scratch.bundle, '--pid-file', scratch.pidFile, scratch.id];
}

/** script(1) makes terminals; without it the container is on ours, and knows no job control. */
function onTerminal(command: readonly string[], { ownEnv, onWarning }: LaunchOptions): readonly string[] {
  const script = findProgram('script', ownEnv);
  if (script) return [script, '--quiet', '--return', '--command', `exec ${command.map(quote).join(' ')}`, '/dev/null'];
  onWarning('script is not installed: the container is on this terminal, and has none of its own');
  return command;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

async function killContainer({ scratch, runtime }: LaunchOptions, launched: number | undefined): Promise<void> {
  if (runtime) await runQuietly(runtime.path, ['--root', scratch.runtimeState, 'kill', scratch.id, 'KILL']);
  const pid = readPid(scratch.pidFile);
  if (pid !== undefined) sendSignal(pid, 'SIGKILL');
  else if (launched !== undefined) sendSignal(launched, 'SIGKILL');
}

/** The runtime takes the container away when it ends, unless it was killed before it could. */
async function removeContainer({ scratch, runtime }: LaunchOptions): Promise<void> {
  if (runtime) await runQuietly(runtime.path, ['--root', scratch.runtimeState, 'delete', '--force', scratch.id]);
}

function readLog(scratch: Scratch): string {
  try {
    return readFileSync(scratch.runtimeLog, 'utf8');
  } catch {
    return '';
  }
}

function needed(name: string, env: Readonly<Record<string, string | undefined>>): string {
  const path = findProgram(name, env);
  if (path === undefined) throw new LazypullError('UNSUPPORTED', `${name} of util-linux is not installed`);
  return path;
}
