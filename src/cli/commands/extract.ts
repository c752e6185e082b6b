import type { Command } from 'commander';
import type { ExtractProgress, ExtractReport, ExtractTarget } from '../../image/extract.ts';
import { outputOf, type AddCommand } from '../app.ts';
import { sizeArgument } from '../flags.ts';
import type { Output } from '../output.ts';
import { addReadOptions, readImage, type ReadFlags } from '../read-image.ts';

interface Flags extends ReadFlags {
  readonly output?: string;
  readonly tar?: string;
  readonly overwrite?: boolean;
  /** Undefined when nothing was said about it. */
  readonly sameOwner?: boolean;
  readonly maxSize?: number;
}

export const addExtract: AddCommand = (program, app) => {
  const command = program
    .command('extract')
    .description('Take files and directories out of a lazy image, fetching only their bytes')
    .argument('<image>', 'the image')
    .argument('[path...]', 'files and directories in it (default: all of it)')
    .option('-o, --output <dir>', 'the directory to write to; made when it is not there')
    .option('--tar <file>', 'write a tar instead; - is standard output')
    .option('--overwrite', 'replace files that are there already')
    .option('--same-owner', "give files to the image's users, and keep set-user-ID bits (default: as root)")
    .option('--no-same-owner', 'do neither of both')
    .option('--max-size <size>', 'refuse to write more than this (500M; default 64G)', sizeArgument(1));
  addReadOptions(command);
  command.addHelpText('after', `
Everything keeps its path: /etc/passwd becomes DIR/etc/passwd. Symlinks stay
symlinks, and what a named one leads to comes along. Extended attributes and
devices need --tar.

Examples:
  lazypull extract oci:./layout:app-esgz /etc /usr/bin/show -o ./files
  lazypull extract oci:./layout:app-esgz --tar - | tar -tv`);
  command.action(async (text: string, paths: readonly string[], flags: Flags, self: Command) => {
    const [{ LazypullError }, { extractImage }, { Meter }, { withProgress }, { extractSummary }, { tarTarget }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../image/extract.ts'),
      import('../meter.ts'),
      import('../progress.ts'),
      import('../extract-summary.ts'),
      import('../tar-target.ts'),
    ]);
    const { output, tar } = flags;
    const wrong = misuse(flags, outputOf(app, self));
    if (wrong) throw new LazypullError('USAGE', wrong);
    await readImage(app, self, text, flags, async (image, out) => {
      const meter = new Meter('extracting', 'file');
      let done = 0;
      const progress = (event: ExtractProgress): void => {
        if (event.type === 'total') meter.total(event.files, event.bytes);
        else if (event.type === 'bytes') meter.advance(event.bytes);
        else {
          done += 1;
          meter.itemDone();
        }
      };
      const extract = (target: ExtractTarget): Promise<ExtractReport> => withProgress(out, meter, () => extractImage(image, target, {
        signal: app.io.signal,
        progress,
        ...(paths.length > 0 ? { paths } : {}),
        ...(flags.overwrite ? { overwrite: true } : {}),
        ...(flags.sameOwner === undefined ? {} : { sameOwner: flags.sameOwner }),
        ...(flags.maxSize === undefined ? {} : { maxBytes: flags.maxSize }),
      }));
      let report: ExtractReport | undefined;
      if (tar === undefined) {
        report = await extract({ directory: output as string }).catch((error: unknown) => {
          if (done > 0) out.warn(`${done} files that were extracted before it failed are in ${output}`);
          throw error;
        });
      } else {
        report = await tarTarget(tar, out, flags.overwrite ?? false, (sink) => extract({ sink }));
      }
      // Who read the tar has had enough of it.
      if (!report) return;
      for (const warning of report.warnings) out.warn(warning);
      if (out.json) await out.object(report);
      else out.note(extractSummary(report, output ?? (tar === '-' ? undefined : tar)));
    });
  });
};

function misuse({ output, tar, sameOwner }: Flags, out: Output): string | undefined {
  if (output === undefined && tar === undefined) return 'say where to: -o DIR, or --tar FILE';
  if (output !== undefined && tar !== undefined) return '-o and --tar are two targets: one is enough';
  if (tar !== undefined && sameOwner !== undefined) return 'a tar names owners in any case; --same-owner and --no-same-owner are for -o';
  if (tar === '-' && out.json) return 'standard output is either the tar or the JSON object';
  if (tar === '-' && out.toTerminal) return 'a terminal cannot show a tar: give --tar a file, or pipe it somewhere';
  return undefined;
}
