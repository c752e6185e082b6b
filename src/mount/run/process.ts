import { LazypullError, printable } from '../../core/errors.ts';
import { mergeEnvironment, type Assignment } from './environment.ts';
import type { RunConfig } from './image-config.ts';
import type { ContainerUser } from './user.ts';
import { cleanPath } from './volumes.ts';

/** What the user wants instead of what the image says. */
export interface ProcessWishes {
  /** In place of the image's Cmd; empty for that. */
  readonly command: readonly string[];
  /** In place of the image's Entrypoint, whose Cmd then goes, too; an empty one for none. */
  readonly entrypoint?: string;
  readonly workdir?: string;
  readonly env: readonly Assignment[];
  readonly hostname: string;
  readonly terminal: boolean;
}

/** The container's first process. */
export interface ContainerProcess {
  /** At least one. */
  readonly args: readonly [string, ...string[]];
  readonly env: readonly string[];
  /** Absolute and clean. */
  readonly cwd: string;
  readonly user: ContainerUser;
  readonly terminal: boolean;
}

/** Puts together what the image and the user say. `ignored` are parts of the image's environment that are no assignments. */
export function planProcess(config: RunConfig, user: ContainerUser, wishes: ProcessWishes): { readonly process: ContainerProcess; readonly ignored: readonly string[] } {
  const args = processArgs(config, wishes);
  const { env, ignored } = mergeEnvironment({
    image: config.env,
    defaults: [['HOSTNAME', wishes.hostname], ...(wishes.terminal ? [['TERM', 'xterm'] as const] : [])],
    wanted: wishes.env,
    home: user.home,
  });
  return { process: { args, env, cwd: workingDirectory(config, wishes.workdir), user, terminal: wishes.terminal }, ignored };
}

/** Entrypoint and what follows it. A command takes the place of Cmd; an entrypoint takes that of both. */
export function processArgs(config: Pick<RunConfig, 'entrypoint' | 'cmd'>, wishes: Pick<ProcessWishes, 'command' | 'entrypoint'>): readonly [string, ...string[]] {
  const own = wishes.entrypoint === undefined;
  const front = own ? config.entrypoint : wishes.entrypoint === '' ? [] : [wishes.entrypoint];
  const back = wishes.command.length > 0 ? wishes.command : own ? config.cmd : [];
  const [first, ...rest] = [...front, ...back];
  if (first === undefined) throw new LazypullError('USAGE', 'the image names no command: put one behind --');
  if (first === '') throw new LazypullError('USAGE', 'the command is an empty word');
  if ([first, ...rest].some((arg) => arg.includes('\0'))) throw new LazypullError('USAGE', 'the command has a NUL byte');
  return [first, ...rest];
}

function workingDirectory({ workingDir }: RunConfig, wanted: string | undefined): string {
  if (wanted !== undefined && !wanted.startsWith('/')) throw new LazypullError('USAGE', `-w ${printable(wanted.slice(0, 200))}: the path must begin with /`);
  const path = wanted ?? workingDir;
  if (path.includes('\0')) throw new LazypullError('USAGE', 'the working directory has a NUL byte');
  return cleanPath(path);
}
