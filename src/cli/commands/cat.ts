import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addReadOptions, readImage, type ReadFlags } from '../read-image.ts';

export const addCat: AddCommand = (program, app) => {
  const command = program
    .command('cat')
    .description('Print files of a lazy image, fetching only their bytes')
    .argument('<image>', 'the image')
    .argument('<path...>', 'files in it');
  addReadOptions(command);
  command.addHelpText('after', '\nExample:\n  lazypull cat --stats oci:./layout:app-esgz /etc/os-release');
  command.action(async (text: string, paths: readonly string[], flags: ReadFlags, self: Command) => {
    const { LazypullError } = await import('../../core/errors.ts');
    if (outputOf(app, self).json) throw new LazypullError('USAGE', 'cat prints the bytes of files; it has no --json');
    const { signal } = app.io;
    await readImage(app, self, text, flags, async (image, out) => {
      for (const path of paths) {
        for await (const bytes of image.streamFile(path, { signal })) {
          await out.write(bytes);
          if (out.readerGone) return;
        }
      }
    });
  });
};
