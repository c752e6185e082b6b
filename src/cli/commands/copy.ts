import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addJobsOption, addPlatformsOption } from '../flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';

interface Flags extends RegistryFlags {
  readonly platform?: readonly string[];
  readonly referrers?: boolean;
  readonly dryRun?: boolean;
  readonly ifChanged?: boolean;
  readonly clobber: boolean;
  readonly jobs?: number;
}

export const addCopy: AddCommand = (program, app) => {
  const command = program
    .command('copy')
    .description('Copy an image byte for byte, all platforms included')
    .argument('<source>', 'the image to read')
    .argument('<target>', 'where to write it')
    .option('--referrers', 'also copy signatures, SBOMs and whatever else refers to it')
    .option('--if-changed', 'do nothing when the target is this image already')
    .option('--no-clobber', 'fail rather than move a tag that is another image')
    .option('--dry-run', 'only say what would be copied');
  addPlatformsOption(command);
  addJobsOption(command, 'blobs side by side (default 3)');
  addRegistryOptions(command, true);
  command.addHelpText('after', `
Narrowing an index with --platform writes a new, smaller index with a digest of
its own.

Example:
  lazypull copy --referrers registry.example/dev/app:1 registry.example/prod/app:1`);
  command.action(async (source: string, target: string, flags: Flags, self: Command) => {
    const [{ copyImage }, { parsePlatform }, { Meter }, { withProgress }, { Places }, { finalReference }, { copySummary }] = await Promise.all([
      import('../../image/copy.ts'),
      import('../../oci/platform.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../places.ts'),
      import('../final-reference.ts'),
      import('../copy-summary.ts'),
    ]);
    const out = outputOf(app, self);
    const platforms = flags.platform?.map(parsePlatform);
    const meter = new Meter('copying', 'blob');
    await Places.use(app, out, flags, async (places) => {
      const from = await places.open(source, { side: 'src' });
      const to = await places.open(target, { side: 'dst', create: true });
      const report = await withProgress(out, meter, () => copyImage(from, to, {
        signal: app.io.signal,
        companions: app.formats.flatMap((format) => format.companions ?? []),
        bindings: app.formats.flatMap((format) => format.binding ?? []),
        ...(platforms ? { platforms } : {}),
        ...(flags.referrers ? { referrers: true } : {}),
        ...(flags.dryRun ? { dryRun: true } : {}),
        ...(flags.ifChanged ? { ifChanged: true } : {}),
        ...(flags.clobber ? {} : { noClobber: true }),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
        progress(event) {
          if (event.type === 'total') meter.total(event.blobs, event.bytes);
          else if (event.type === 'bytes') meter.advance(event.bytes);
          else meter.itemDone(event.moved ? 0 : event.size);
        },
      }));
      for (const warning of report.warnings) out.warn(warning);
      if (out.json) return out.object({ ...report, reference: finalReference(to.location, report.digest) });
      if (flags.dryRun) return out.line(copySummary(report));
      out.note(copySummary(report));
      return out.line(finalReference(to.location, report.digest));
    });
  });
};
