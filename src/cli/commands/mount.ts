import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addMountOptions, mountOptions, mountProgram, type MountFlags } from '../mount-flags.ts';

interface Flags extends MountFlags {
  readonly rw?: boolean;
  readonly upper?: string;
  readonly foreground?: boolean;
  readonly detachWhenComplete?: boolean;
}

export const addMount: AddCommand = (program, app) => {
  const command = program
    .command('mount')
    .description('Mount an image without pulling it: files are fetched when they are read')
    .argument('<image>', 'the image')
    .argument('<dir>', 'the folder to mount at')
    .option('--rw', 'put a writable layer on top, which goes with the mount')
    .option('--upper <dir>', 'keep what is written in this folder (implies --rw)')
    .option('--foreground', 'stay, log to standard error, and unmount with Ctrl-C')
    .option('--detach-when-complete', 'fetch everything, then let the kernel read the local files and end the server (erofs backend)');
  addMountOptions(command);
  command.addHelpText('after', `
Returns when the files can be used; lazypull unmount takes the mount away, and
lazypull ps shows it. Set-user-ID bits and device nodes of the image mean nothing
in the mount.

Examples:
  lazypull mount registry.example/app:1-esgz /mnt/app
  lazypull mount --rw --prefetch-list hot.txt oci:./layout:app /mnt/app`);
  command.action(async (image: string, dir: string, flags: Flags, self: Command) => {
    const out = outputOf(app, self);
    const own = flags.foreground ? { leash: true, logToStderr: flags.log === undefined } : {};
    const { launchDaemon } = await import('../../mount/host/launch.ts');
    const launched = launchDaemon({ program: mountProgram(app.io), image, env: app.io.env, signal: app.io.signal, ...(flags.log === undefined ? {} : { log: flags.log }), ...own });
    const mounted = await (async () => {
      try {
        const [{ startMount }, { Meter, showConversion }, { withProgress }] = await Promise.all([import('../../mount/host/start.ts'), import('../meter.ts'), import('../progress.ts')]);
        const options = {
          ...(await mountOptions(app, out, flags)),
          image,
          dir,
          ...(flags.rw ? { rw: true } : {}),
          ...(flags.upper === undefined ? {} : { upper: flags.upper }),
          ...(flags.detachWhenComplete ? { detachWhenComplete: true } : {}),
          ...own,
        };
        const meter = new Meter('mounting', 'layer');
        return await withProgress(out, meter, () => startMount({ ...options, onProgress: showConversion(meter) }, launched));
      } catch (error) {
        await launched.abandon();
        throw error;
      }
    })();
    out.note(`backend ${mounted.backend}: ${mounted.why}`);
    const { config: _config, ...facts } = mounted;
    if (out.json) await out.object(facts);
    else await out.line(mounted.dir);
    if (!flags.foreground) return;
    const [{ awaitUnmount }, { stopMount }] = await Promise.all([import('../../mount/host/wait.ts'), import('../../mount/host/stop.ts')]);
    await awaitUnmount(mounted, app.io.signal);
    if (app.io.signal.aborted) await stopMount(mounted.dir, { how: 'lazy', env: app.io.env });
  });
};
