import { Argument } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import type { Shell } from '../completion.ts';

const SHELLS: readonly Shell[] = ['bash', 'zsh', 'fish'];

export const addCompletion: AddCommand = (program, app) => {
  program
    .command('completion')
    .description('Print a completion script for a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText('after', '\nExample:\n  source <(lazypull completion bash)')
    .action(async (shell: Shell, _flags, command) => {
      const { completionScript } = await import('../completion.ts');
      await outputOf(app, command).write(completionScript(program, shell));
    });
};
