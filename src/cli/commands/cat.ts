import type { Command } from 'commander';
import { loadFormats, outputOf, type AddCommand } from '../app.ts';
import { addPlatformOption } from '../flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';

interface Flags extends RegistryFlags {
  readonly stats?: boolean;
  readonly platform?: string;
}

export const addCat: AddCommand = (program, app) => {
  const command = program
    .command('cat')
    .description('Print files of a lazy image, fetching only their bytes')
    .argument('<image>', 'the image')
    .argument('<path...>', 'files in it')
    .option('--stats', 'say on standard error how much was fetched');
  addPlatformOption(command, "this machine's");
  addRegistryOptions(command);
  command.addHelpText('after', '\nExample:\n  lazypull cat --stats oci:./layout:app-esgz /etc/os-release');
  command.action(async (text: string, paths: readonly string[], flags: Flags, self: Command) => {
    const [{ LazypullError }, { openImage }, { parsePlatform }, { Places }, { readStats }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../image/open.ts'),
      import('../../oci/platform.ts'),
      import('../places.ts'),
      import('../read-stats.ts'),
    ]);
    const out = outputOf(app, self);
    if (out.json) throw new LazypullError('USAGE', 'cat prints the bytes of files; it has no --json');
    const { signal } = app.io;
    const options = { signal, ...(flags.platform ? { platform: parsePlatform(flags.platform) } : {}) };
    await Places.use(app, out, flags, async (places) => {
      const place = await places.open(text);
      const image = await openImage(place, await loadFormats(app), options);
      for (const warning of image.warnings) out.warn(warning);
      for (const path of paths) {
        for await (const bytes of image.streamFile(path, { signal })) {
          await out.write(bytes);
          if (out.readerGone) return;
        }
      }
      if (flags.stats) out.say(readStats(image));
    });
  });
};
