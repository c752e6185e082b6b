import type { Command } from 'commander';
import { loadFormats, outputOf, type AddCommand } from '../app.ts';
import { addJobsOption, addPlatformsOption, sizeArgument } from '../flags.ts';
import { addFormatOptions, chooseFormats, formatsOption } from '../format-flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';
import { shortDigests } from '../units.ts';

interface Flags extends RegistryFlags {
  readonly format?: readonly string[];
  readonly platform?: readonly string[];
  readonly mergeIndex?: boolean;
  readonly dryRun?: boolean;
  readonly jobs?: number;
  readonly maxLayerSize?: number;
}

export const addConvert: AddCommand = (program, app) => {
  const formats = app.formats.filter(({ indexOnly }) => !indexOnly);
  const command = program
    .command('convert')
    .description('Convert an image to a lazy format')
    .argument('<source>', 'the image to read')
    .argument('<target>', 'where to write the converted image')
    .addOption(formatsOption(formats))
    .option('--merge-index', 'keep the image too, and list both in one index (for formats that need a client of their own)')
    .option('--dry-run', 'convert, but store nothing: shows what would come out')
    .option('--max-layer-size <size>', 'refuse layers that unpack to more than this (10G, 500M; default 64G)', sizeArgument(1));
  addPlatformsOption(command);
  addJobsOption(command, 'threads to use (default: all cores)');
  addFormatOptions(command, formats);
  addRegistryOptions(command, true);
  command.addHelpText('after', `
Standard output holds the converted image's reference and nothing else, so that
commands chain; the table of layers goes to standard error. With --dry-run there
is no image to refer to, and the table goes to standard output.

A format that only describes layers (soci) leaves them as they are, and then
--platform chooses which images are described: the others stay in the image as
they are. A format that makes new layers leaves the others out.

Examples:
  lazypull convert registry.example/app:1 registry.example/app:1-esgz
  lazypull convert oci:./layout:app oci:./layout:app-esgz --prefetch-list hot.txt
  lazypull convert --format soci registry.example/app:1 registry.example/app:1-soci
  lazypull convert --format estargz,soci oci:./layout:app oci:./layout:app-lazy`);
  command.action(async (source: string, target: string, flags: Flags, self: Command) => {
    const [{ convertImage }, { openStoredImage }, { parsePlatform }, { Meter, showConversion }, { withProgress }, { Places }, { finalReference }, { convertSummary }] = await Promise.all([
      import('../../image/convert.ts'),
      import('../../image/open.ts'),
      import('../../oci/platform.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../places.ts'),
      import('../final-reference.ts'),
      import('../convert-summary.ts'),
    ]);
    const out = outputOf(app, self);
    const platforms = flags.platform?.map(parsePlatform);
    const meter = new Meter('converting', 'layer');
    await Places.use(app, out, flags, async (places) => {
      const names = flags.format ?? formats.slice(0, 1).map(({ name }) => name);
      const choices = await chooseFormats(formats, names, flags, async (text) => openStoredImage(await places.open(text, { side: 'src' }), app.io.signal));
      const from = await places.open(source, { side: 'src' });
      const to = await places.open(target, { side: 'dst', create: true });
      const report = await withProgress(out, meter, () => convertImage(from, to, choices, {
        readers: () => loadFormats(app),
        bindings: app.formats.flatMap((format) => format.binding ?? []),
        signal: app.io.signal,
        ...(platforms ? { platforms } : {}),
        ...(flags.mergeIndex ? { mergeIndex: true } : {}),
        ...(flags.dryRun ? { dryRun: true } : {}),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
        ...(flags.maxLayerSize === undefined ? {} : { maxLayerSize: flags.maxLayerSize }),
        progress: showConversion(meter),
      }));
      for (const warning of report.warnings) out.warn(shortDigests(warning));
      if (!out.json) for (const note of report.notes) out.note(shortDigests(note));
      const reference = finalReference(to.location, report.digest, report.extraTags.length > 0);
      if (out.json) return out.object({ ...report, reference });
      // Nothing was stored: there is no reference to pass on.
      if (flags.dryRun) return out.line(convertSummary(report));
      out.note(convertSummary(report));
      return out.line(reference);
    });
  });
};
