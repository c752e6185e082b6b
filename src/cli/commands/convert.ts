import { Option, type Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addJobsOption, addPlatformsOption, sizeArgument } from '../flags.ts';
import { addFormatOptions, chooseFormat } from '../format-flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';
import { shortDigests } from '../units.ts';

interface Flags extends RegistryFlags {
  readonly format: string;
  readonly platform?: readonly string[];
  readonly dryRun?: boolean;
  readonly jobs?: number;
  readonly maxLayerSize?: number;
}

export const addConvert: AddCommand = (program, app) => {
  const names = app.formats.map(({ name }) => name);
  const command = program
    .command('convert')
    .description('Convert an image to a lazy format')
    .argument('<source>', 'the image to read')
    .argument('<target>', 'where to write the converted image')
    .addOption(new Option('--format <name>', 'the format to write').choices(names).default(names[0]))
    .option('--dry-run', 'convert, but store nothing: shows what would come out')
    .option('--max-layer-size <size>', 'refuse layers that unpack to more than this (10G, 500M; default 64G)', sizeArgument(1));
  addPlatformsOption(command);
  addJobsOption(command, 'threads to use (default: all cores)');
  addFormatOptions(command, app.formats);
  addRegistryOptions(command, true);
  command.addHelpText('after', `
Standard output holds the converted image's reference and nothing else, so that
commands chain; the table of layers goes to standard error. With --dry-run there
is no image to refer to, and the table goes to standard output.

Examples:
  lazypull convert registry.example/app:1 registry.example/app:1-esgz
  lazypull convert oci:./layout:app oci:./layout:app-esgz --prefetch-list hot.txt`);
  command.action(async (source: string, target: string, flags: Flags, self: Command) => {
    const [{ convertImage }, { parsePlatform }, { Meter }, { withProgress }, { Places }, { finalReference }, { convertSummary }] = await Promise.all([
      import('../../image/convert.ts'),
      import('../../oci/platform.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../places.ts'),
      import('../final-reference.ts'),
      import('../convert-summary.ts'),
    ]);
    const out = outputOf(app, self);
    const { format, options } = await chooseFormat(app.formats, flags.format, flags);
    const platforms = flags.platform?.map(parsePlatform);
    const meter = new Meter('converting', 'layer');
    await Places.use(app, out, flags, async (places) => {
      const from = await places.open(source, { side: 'src' });
      const to = await places.open(target, { side: 'dst', create: true });
      const report = await withProgress(out, meter, () => convertImage(from, to, format, {
        formatOptions: options,
        signal: app.io.signal,
        ...(platforms ? { platforms } : {}),
        ...(flags.dryRun ? { dryRun: true } : {}),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
        ...(flags.maxLayerSize === undefined ? {} : { maxLayerSize: flags.maxLayerSize }),
        progress(event) {
          if (event.type === 'total') meter.total(event.layers, event.bytes);
          else if (event.type === 'bytes') meter.advance(event.packed);
          else if (event.phase !== 'start') meter.itemDone(event.phase === 'reused' ? event.size : 0);
        },
      }));
      for (const warning of report.warnings) out.warn(shortDigests(warning));
      const reference = finalReference(to.location, report.digest, report.extraTags.length > 0);
      if (out.json) return out.object({ ...report, reference });
      // Nothing was stored: there is no reference to pass on.
      if (flags.dryRun) return out.line(convertSummary(report));
      out.note(convertSummary(report));
      return out.line(reference);
    });
  });
};
