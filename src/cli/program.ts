import { Command } from 'commander';
import { version } from '../core/version.ts';
import type { AddCommand, App } from './app.ts';
import { addCache } from './commands/cache.ts';
import { addCat } from './commands/cat.ts';
import { addCompletion } from './commands/completion.ts';
import { addConvert } from './commands/convert.ts';
import { addCopy } from './commands/copy.ts';
import { addExtract } from './commands/extract.ts';
import { addIndex } from './commands/index-image.ts';
import { addInspect } from './commands/inspect.ts';
import { addLs } from './commands/ls.ts';
import { addMount } from './commands/mount.ts';
import { addMountDaemon } from './commands/mount-daemon.ts';
import { addPrefetch } from './commands/prefetch.ts';
import { addPs } from './commands/ps.ts';
import { addRestart } from './commands/restart.ts';
import { addRun } from './commands/run.ts';
import { addRunInit } from './commands/run-init.ts';
import { addServe } from './commands/serve.ts';
import { addUnmount } from './commands/unmount.ts';
import { addVerify } from './commands/verify.ts';
import { exitCodeHelp } from './exit-codes.ts';

const COMMANDS: readonly AddCommand[] = [addConvert, addIndex, addInspect, addLs, addCat, addExtract, addVerify, addCopy, addServe, addMount, addRun, addUnmount, addPs, addRestart, addPrefetch, addCache, addCompletion, addMountDaemon, addRunInit];

const LOCATIONS = `Images are named the same way everywhere:
  docker://HOST/REPO:TAG   in a registry; HOST/REPO:TAG and REPO@sha256:... work too
  oci:DIR:TAG              in an OCI image layout; oci:DIR@sha256:... works too`;

/** The command tree. Building it loads no more than commander, so that --help and --version are quick. */
export function buildProgram(app: App, writeOut: (text: string) => void): Command {
  const program = new Command('lazypull')
    .description('Make any OCI container image lazily runnable.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .option('--json', 'print one JSON object instead of text')
    .option('-q, --quiet', 'print results and errors only')
    .option('--no-progress', 'show no progress line')
    .option('--debug', 'show stack traces of errors')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    // Errors are printed in one place, by main; help that was not asked for goes to stderr.
    .configureOutput({ writeOut, writeErr: (text) => void app.io.stderr.write(text), outputError: () => {} })
    .addHelpText('after', `\n${LOCATIONS}\n\n${exitCodeHelp()}`);
  for (const add of COMMANDS) add(program, app);
  return program;
}
