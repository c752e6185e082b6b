import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { reportError } from '../../src/cli/report-error.ts';
import { Output } from '../../src/cli/output.ts';
import { RUN_FAILED } from '../../src/cli/exit-codes.ts';
import { runImage, type RunOptions } from '../../src/mount/run/run-image.ts';
import { readContext } from '../../src/mount/run/context.ts';
import { outerGone, runInUserNamespace } from '../../src/mount/run/user-namespace.ts';
import { built } from '../support/root.ts';

/**
 * `lazypull run` with a folder in place of a lazy mount: what a container does to its surroundings is tested without a server
 * of files that could be at fault. Arguments: the folder (its config is beside it, with `.json`), and options as JSON.
 */
const [folder = '', json = '{}'] = process.argv.slice(2);
const { env, stdin, stdout, stderr } = process;
let listener: ((signal: NodeJS.Signals) => void) | undefined;
const stop = new AbortController();
for (const name of ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const) {
  process.on(name, () => (listener ? listener(name) : stop.abort()));
}
const takeSignals: NonNullable<RunOptions['takeSignals']> = (next) => {
  listener = next;
  return () => {
    listener = undefined;
  };
};
const umount = (dir: string): void => void execFileSync('umount', [dir]);
const out = new Output({ stdin, stdout, stderr, env, program: process.argv[1] as string, signal: stop.signal }, {});

async function run(): Promise<number> {
  const gone = outerGone(env);
  if (!readContext().mayMount && !gone) return runInUserNamespace([process.execPath, ...process.argv.slice(1)], env, takeSignals);
  return runImage({
    image: folder,
    mount: async (dir) => {
      execFileSync('mount', ['--rbind', folder, dir]);
      execFileSync('mount', ['--make-private', dir]);
      return { config: readFileSync(`${folder}.json`), unmount: async () => umount(dir) };
    },
    unmountAbandoned: async (dir) => umount(dir),
    initProgram: [process.execPath, join(built, 'bin', 'lazypull.js'), 'run-init'],
    ownEnv: env,
    signal: stop.signal,
    ...(gone ? { abandoned: gone } : {}),
    takeSignals,
    onWarning: (text) => out.warn(text),
    ...(JSON.parse(json) as Partial<RunOptions>),
  });
}

process.exit(await run().catch((error: unknown) => {
  reportError(error, out, env['DEBUG'] !== undefined);
  return stop.signal.aborted ? 130 : RUN_FAILED;
}));
