import { Argument } from 'commander';
import type { ExpectedRole } from '../../mount/host/process.ts';
import { loadFormats, type AddCommand } from '../app.ts';

/** Not for users: the processes of a mount are started with it, by `mount` and by each other. */
export const addMountDaemon: AddCommand = (program, app) => {
  program
    .command('mount-daemon', { hidden: true })
    .description('One of the processes that serve a mount')
    .addArgument(new Argument('[role]', 'what it will be told to be').choices(['serve', 'serve-remote']))
    .action(async (role: ExpectedRole | undefined) => {
      const { runMountProcess } = await import('../../mount/host/process.ts');
      const formatNames = app.formats.filter(({ reads }) => reads !== false).map(({ name }) => name);
      await runMountProcess({ env: app.io.env, loadFormats: () => loadFormats(app), formatNames, signal: app.io.signal }, role);
    });
};
