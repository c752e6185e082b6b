import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';

interface Flags {
  readonly force?: boolean;
  readonly lazy?: boolean;
}

export const addUnmount: AddCommand = (program, app) => {
  program
    .command('unmount')
    .alias('umount')
    .description('Unmount an image')
    .argument('<dir...>', 'where it is mounted')
    .option('-f, --force', 'also when it is in use or does not answer: whoever reads gets errors')
    .option('-l, --lazy', 'out of sight now, gone when the last one who uses it has left')
    .addHelpText('after', '\nExample:\n  lazypull unmount /mnt/app')
    .action(async (dirs: readonly string[], flags: Flags, self: Command) => {
      const [{ LazypullError }, { stopMount }, { reapAbandoned }] = await Promise.all([import('../../core/errors.ts'), import('../../mount/host/stop.ts'), import('../reap-abandoned.ts')]);
      if (flags.force && flags.lazy) throw new LazypullError('USAGE', '--force and --lazy are two different things');
      const out = outputOf(app, self);
      const unmounted: string[] = [];
      for (const dir of dirs) unmounted.push(await stopMount(dir, { how: flags.force ? 'force' : flags.lazy ? 'lazy' : 'clean', env: app.io.env }));
      await reapAbandoned(app, out);
      if (out.json) await out.object({ unmounted });
    });
};
