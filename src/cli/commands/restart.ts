import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';

export const addRestart: AddCommand = (program, app) => {
  program
    .command('restart')
    .description('Start the processes of mounts anew, for instance after an upgrade, while the mounts stay')
    .argument('[dir...]', 'where they are mounted (default: all)')
    .addHelpText('after', `
Readers notice nothing: the new process takes over when it is ready, and what was
asked of the old one is answered by the new one.

Example:
  lazypull restart /mnt/app`)
    .action(async (dirs: readonly string[], _flags: unknown, self: Command) => {
      const { restartMounts } = await import('../../mount/host/restart.ts');
      const restarted = await restartMounts(dirs, app.io.env);
      const out = outputOf(app, self);
      if (out.json) await out.object({ restarted });
      else for (const { dir } of restarted) await out.line(dir);
    });
};
