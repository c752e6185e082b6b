import { Option, type Command } from 'commander';
import type { RunOptions } from '../../mount/run/run-image.ts';
import { outputOf, type AddCommand } from '../app.ts';
import { RUN_FAILED } from '../exit-codes.ts';
import { addMountOptions, mountOptions, mountProgram, type MountFlags } from '../mount-flags.ts';

interface Flags extends MountFlags {
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly volume?: readonly string[];
  readonly net: 'host' | 'none';
  readonly user?: string;
  readonly workdir?: string;
  readonly entrypoint?: string;
  readonly hostname?: string;
  readonly readonly?: boolean;
  readonly tty?: boolean;
  readonly runtime: 'auto' | 'runc' | 'crun' | 'none';
}

/** Words of a repeatable option, blanks and commas included. */
const collect = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

export const addRun: AddCommand = (program, app) => {
  const command = program
    .command('run')
    .description('Run an image without pulling it, in a container that leaves nothing behind')
    .argument('<image>', 'the image')
    .argument('[command...]', "what to run in place of the image's own command; behind -- if it has flags")
    .option('-e, --env <name=value>', 'set a variable; a name alone takes its value from here; repeatable', collect)
    .option('--env-file <file>', 'set variables, one per line of this file; repeatable', collect)
    .option('-v, --volume <host:container[:ro]>', 'show a folder or file of this machine in the container; repeatable', collect)
    .addOption(new Option('--net <network>', "the network: this machine's, or none").choices(['host', 'none']).default('host'))
    .option('-u, --user <user[:group]>', 'who to be, by names of the image or numbers')
    .option('-w, --workdir <dir>', 'where to start; made when it is not there')
    .option('--entrypoint <program>', "what to run in place of the image's entrypoint and command; empty for none")
    .option('--hostname <name>', "the container's name")
    .option('--readonly', 'nothing can be written but to volumes')
    .option('-t, --tty', 'give the container a terminal')
    .option('-i, --interactive', 'for habit: standard input is always passed on')
    .option('--rm', 'for habit: a container is always removed')
    .addOption(new Option('--runtime <name>', 'what makes the container; none is namespaces and no more').choices(['auto', 'runc', 'crun', 'none']).default('auto'));
  addMountOptions(command);
  command.addHelpText('after', `
The image is mounted as lazypull mount does it, with a writable layer on top;
whatever is written goes with the container. runc or crun runs it if there is one.

Exits as the program does, with 128 and the signal's number after a signal, 127
when the image has no such program, 126 when it cannot be executed, and 125 when
lazypull itself fails. Signals are passed on; Ctrl-C three times in two seconds
ends it, whatever it does with them.

Examples:
  lazypull run oci:./layout:app-esgz
  lazypull run -e LEVEL=debug -v ./data:/data:ro registry.example/app:1 -- serve --port 80
  lazypull run -it registry.example/debian:12 bash`);
  // What follows is about this command: a program's own exit status must not be taken for one of ours.
  command.exitOverride((error) => {
    app.failureCode = RUN_FAILED;
    throw error;
  });
  command.action(async (image: string, words: readonly string[], flags: Flags, self: Command) => {
    app.failureCode = RUN_FAILED;
    const [{ readContext }, { outerGone, runInUserNamespace, withoutLeash }, { launchDaemon }] = await Promise.all([
      import('../../mount/run/context.ts'),
      import('../../mount/run/user-namespace.ts'),
      import('../../mount/host/launch.ts'),
    ]);
    const out = outputOf(app, self);
    const { env, takeSignals } = app.io;
    // Without the two dashes Node takes --env-file for its own.
    const lazypull = [process.execPath, '--', app.io.program];
    const gone = outerGone(env);
    const context = readContext();
    if (!context.mayMount && !gone) {
      app.exitCode = await runInUserNamespace([...lazypull, ...process.argv.slice(2)], env, takeSignals);
      return;
    }
    const ownEnv = withoutLeash(env);
    // It has the most to load: this process does what it has to do meanwhile.
    const launched = launchDaemon({ program: mountProgram(app.io), image, env: ownEnv, signal: app.io.signal, ...(flags.log === undefined ? {} : { log: flags.log }) });
    let taken = false;
    try {
      const [{ startMount }, { stopMount }, { runImage }] = await Promise.all([
        import('../../mount/host/start.ts'),
        import('../../mount/host/stop.ts'),
        import('../../mount/run/run-image.ts'),
      ]);
      const { onProgress: _onProgress, ...mount } = await mountOptions(app, out, flags);
      app.exitCode = await runImage({
        ...wishes(flags),
        image,
        command: words,
        ownEnv,
        signal: app.io.signal,
        ...(gone ? { abandoned: gone } : {}),
        initProgram: [...lazypull, 'run-init'],
        ...(takeSignals ? { takeSignals } : {}),
        onWarning: (text) => out.warn(text),
        async mount(dir, signal) {
          taken = true;
          const { config } = await startMount({ ...mount, image, dir, env: ownEnv, leash: true, ...(signal ? { signal } : {}) }, launched);
          return { config, unmount: () => stopMount(dir, { how: 'force', env: ownEnv }).then(() => undefined) };
        },
        unmountAbandoned: (dir) => stopMount(dir, { how: 'force', env: ownEnv }).then(() => undefined),
      });
    } finally {
      if (!taken) await launched.abandon();
    }
  });
};

function wishes(flags: Flags): Pick<RunOptions, 'env' | 'envFiles' | 'volumes' | 'net' | 'user' | 'workdir' | 'entrypoint' | 'hostname' | 'readonly' | 'terminal' | 'runtime'> {
  const { env, envFile, volume, user, workdir, entrypoint, hostname } = flags;
  return {
    net: flags.net,
    runtime: flags.runtime,
    ...(env ? { env } : {}),
    ...(envFile ? { envFiles: envFile } : {}),
    ...(volume ? { volumes: volume } : {}),
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(flags.readonly ? { readonly: true } : {}),
    ...(flags.tty ? { terminal: true } : {}),
  };
}
