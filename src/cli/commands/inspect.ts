import type { Command } from 'commander';
import { loadFormats, outputOf, type AddCommand } from '../app.ts';
import { EXIT } from '../exit-codes.ts';
import { addPlatformOption } from '../flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';

interface Flags extends RegistryFlags {
  readonly platform?: string;
}

export const addInspect: AddCommand = (program, app) => {
  const command = program
    .command('inspect')
    .description('Show what an image is made of and how it would be read lazily')
    .argument('<image>', 'the image');
  addPlatformOption(command, 'all');
  addRegistryOptions(command);
  command.addHelpText('after', `
READ FIRST is what has to be there before anything runs: index and prefetched
files of a lazy layer, all of any other layer.

Example:
  lazypull inspect oci:./layout:app-esgz`);
  command.action(async (text: string, flags: Flags, self: Command) => {
    const [{ inspectImage }, { parsePlatform }, { Places }, { inspectText }] = await Promise.all([
      import('../../image/inspect.ts'),
      import('../../oci/platform.ts'),
      import('../places.ts'),
      import('../inspect-text.ts'),
    ]);
    const out = outputOf(app, self);
    const options = { signal: app.io.signal, ...(flags.platform ? { platform: parsePlatform(flags.platform) } : {}) };
    await Places.use(app, out, flags, async (places) => {
      const place = await places.open(text);
      const report = await inspectImage(place, await loadFormats(app), options);
      // An index with a broken or missing part still has something to show; this has not.
      if (report.problems.length > 0 && report.images.length + report.others.length === 0) app.exitCode = EXIT.CORRUPT;
      if (out.json) return out.object(report);
      return out.line(inspectText(report, (title) => out.styledResult('bold', title)));
    });
  });
};
