import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';

export const addPs: AddCommand = (program, app) => {
  program
    .command('ps')
    .description('List mounted images')
    .addHelpText('after', `
LOCAL is how much of what a mount shows is on this machine; FETCHED counts from
the start of the process that serves it now.

Example:
  lazypull ps --json`)
    .action(async (_flags: unknown, self: Command) => {
      const [{ listMountsOf }, { mountTable, mountFacts }, { reapAbandoned }] = await Promise.all([import('../../mount/host/list.ts'), import('../mount-table.ts'), import('../reap-abandoned.ts')]);
      const out = outputOf(app, self);
      await reapAbandoned(app, out);
      const mounts = await listMountsOf(app.io.env);
      if (out.json) await out.object({ mounts: mounts.map(mountFacts) });
      else await out.line(mountTable(mounts));
    });
};
