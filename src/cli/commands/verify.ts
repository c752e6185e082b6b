import type { Command } from 'commander';
import { loadFormats, outputOf, type AddCommand } from '../app.ts';
import { EXIT } from '../exit-codes.ts';
import { addJobsOption, addPlatformOption, sizeArgument } from '../flags.ts';
import { shortDigests } from '../units.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';

interface Flags extends RegistryFlags {
  readonly against?: string;
  readonly platform?: string;
  readonly jobs?: number;
  readonly maxLayerSize?: number;
}

export const addVerify: AddCommand = (program, app) => {
  const command = program
    .command('verify')
    .description('Check every byte of an image, or compare it with its original')
    .argument('<image>', 'the image')
    .option('--against <image>', 'also hold its file tree against that of another image, byte for byte')
    .option('--max-layer-size <size>', 'refuse layers that unpack to more than this (default 64G)', sizeArgument(1));
  addJobsOption(command, 'layers side by side (default 2)');
  addPlatformOption(command, 'all');
  addRegistryOptions(command);
  command.addHelpText('after', `
Exit code 1 means that something is wrong; what, is on standard output.

Example:
  lazypull verify oci:./layout:app-esgz --against oci:./layout:app`);
  command.action(async (text: string, flags: Flags, self: Command) => {
    const [{ printable }, { verifyImage }, { parsePlatform }, { Meter }, { withProgress }, { Places }, { verifySummary }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../image/verify.ts'),
      import('../../oci/platform.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../places.ts'),
      import('../verify-summary.ts'),
    ]);
    const out = outputOf(app, self);
    const platform = flags.platform === undefined ? undefined : parsePlatform(flags.platform);
    const meter = new Meter('verifying', 'blob');
    await Places.use(app, out, flags, async (places) => {
      const place = await places.open(text);
      const against = flags.against === undefined ? undefined : await places.open(flags.against);
      const formats = await loadFormats(app);
      const report = await withProgress(out, meter, () => verifyImage(place, formats, {
        signal: app.io.signal,
        ...(against ? { against } : {}),
        ...(platform ? { platform } : {}),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
        ...(flags.maxLayerSize === undefined ? {} : { maxLayerSize: flags.maxLayerSize }),
        progress(event) {
          if (event.type === 'total') meter.total(event.blobs, event.bytes);
          else if (event.type === 'bytes') meter.advance(event.bytes);
          else meter.itemDone(event.moved ? 0 : event.size);
        },
      }));
      for (const note of report.notes) out.note(printable(`note: ${shortDigests(note)}`));
      if (out.json) await out.object(report);
      else await out.line(verifySummary(report));
      if (!report.ok) app.exitCode = EXIT.DIFFERENT;
    });
  });
};
