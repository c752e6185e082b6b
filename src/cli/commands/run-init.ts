import type { AddCommand } from '../app.ts';

/** Not for users: the first process of a container that has no container runtime. */
export const addRunInit: AddCommand = (program, app) => {
  program
    .command('run-init', { hidden: true })
    .description('The first process of a container')
    .argument('<plan>')
    .action(async (plan: string) => {
      const [{ readFile }, { CannotExecute, enterContainer }] = await Promise.all([import('node:fs/promises'), import('../../mount/run/enter.ts')]);
      app.failureCode = 125;
      try {
        await enterContainer(JSON.parse(await readFile(plan, 'utf8')) as Parameters<typeof enterContainer>[0]);
      } catch (error) {
        if (error instanceof CannotExecute) app.failureCode = error.exitCode;
        throw error;
      }
    });
};
