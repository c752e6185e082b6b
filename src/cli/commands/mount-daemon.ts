import { Argument } from 'commander';
import type { ExpectedRole } from '../../mount/host/process.ts';
import type { AddCommand } from '../app.ts';
import { MOUNT_PROCESS, mountProcess } from '../mount-process.ts';

/** Not for users: the processes of a mount are started with it, by `mount` and by each other. */
export const addMountDaemon: AddCommand = (program, app) => {
  program
    .command(MOUNT_PROCESS, { hidden: true })
    .description('One of the processes that serve a mount')
    .addArgument(new Argument('[role]', 'what it will be told to be').choices(['serve', 'serve-remote']))
    .action((role: ExpectedRole | undefined) => mountProcess(app.io, app.formats, role));
};
