import { Option, type Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addJobsOption, addPlatformsOption, sizeArgument } from '../flags.ts';
import { addFormatOptions, chooseIndexing } from '../format-flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';
import { shortDigests } from '../units.ts';

interface Flags extends RegistryFlags {
  readonly as: string;
  readonly platform?: readonly string[];
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly jobs?: number;
  readonly maxLayerSize?: number;
}

export const addIndex: AddCommand = (program, app) => {
  const formats = app.formats.filter(({ rewrites }) => !rewrites).map((format) => ({ ...format, options: format.options.filter(({ repacks }) => !repacks) }));
  const names = formats.map(({ name }) => name);
  const [first] = names;
  if (first === undefined) return;
  const command = program
    .command('index')
    .description('Make an image lazy without touching it: add an index that refers to it')
    .argument('<image>', 'the image, where it is')
    .addOption(new Option('--as <format>', 'the kind of index').choices(names).default(first))
    .option('--force', 'add an index although the image has one of this kind')
    .option('--dry-run', 'index, but store nothing: shows what would come out')
    .option('--max-layer-size <size>', 'refuse layers that unpack to more than this (10G, 500M; default 64G)', sizeArgument(1));
  addPlatformsOption(command);
  addJobsOption(command, 'threads to use (default: all cores)');
  addFormatOptions(command, formats, '--as');
  addRegistryOptions(command);
  command.addHelpText('after', `
The image keeps its digest. The index is stored next to it, in the same
repository or layout, as an artifact that has the image as its subject; clients
find it through the referrers API. "convert --format ${first}" binds index and image
to each other instead, in a new image.

Standard output holds the reference of each index, one per line; the table of
layers goes to standard error. With --dry-run the table goes to standard output.

Example:
  lazypull index registry.example/app:1`);
  command.action(async (text: string, flags: Flags, self: Command) => {
    const [{ indexImage }, { parsePlatform }, { Meter, showConversion }, { withProgress }, { Places }, { finalReference }, { indexSummary }] = await Promise.all([
      import('../../image/index-image.ts'),
      import('../../oci/platform.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../places.ts'),
      import('../final-reference.ts'),
      import('../index-summary.ts'),
    ]);
    const out = outputOf(app, self);
    const choice = await chooseIndexing(formats, flags.as, flags);
    const platforms = flags.platform?.map(parsePlatform);
    const meter = new Meter('indexing', 'layer');
    await Places.use(app, out, flags, async (places) => {
      const place = await places.open(text);
      const report = await withProgress(out, meter, () => indexImage(place, choice, {
        signal: app.io.signal,
        ...(platforms ? { platforms } : {}),
        ...(flags.force ? { force: true } : {}),
        ...(flags.dryRun ? { dryRun: true } : {}),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
        ...(flags.maxLayerSize === undefined ? {} : { maxLayerSize: flags.maxLayerSize }),
        progress: showConversion(meter),
      }));
      for (const warning of report.warnings) out.warn(shortDigests(warning));
      const artifacts = new Set(report.images.flatMap(({ artifact }) => artifact ?? []));
      const references = [...artifacts].map((digest) => finalReference(place.location, digest));
      if (out.json) return out.object({ ...report, artifacts: references });
      if (flags.dryRun) return out.line(indexSummary(report));
      out.note(indexSummary(report));
      for (const reference of references) await out.line(reference);
    });
  });
};
