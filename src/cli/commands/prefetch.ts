import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';
import { addPlatformOption, sizeArgument } from '../flags.ts';
import { addCacheDirOption } from '../mount-flags.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';
import { formatSize } from '../units.ts';

interface Flags extends RegistryFlags {
  readonly platform?: string;
  readonly prefetchList?: string;
  readonly all?: boolean;
  readonly cacheDir?: string;
  readonly cacheSize?: number;
}

export const addPrefetch: AddCommand = (program, app) => {
  const command = program
    .command('prefetch')
    .description('Fetch files of an image into the cache, for mounts to come or for one that stands')
    .argument('<image>', 'the image')
    .argument('[path...]', 'paths or globs in it; a folder stands for all below it (default: what the image itself names)')
    .option('--prefetch-list <file>', 'more of them, one per line')
    .option('--all', 'everything');
  addPlatformOption(command, "this machine's");
  addCacheDirOption(command);
  command.option('--cache-size <size>', 'what the cache may grow to (10G, 500M; default 10G)', sizeArgument(1 << 20));
  addRegistryOptions(command);
  command.addHelpText('after', "\nExample:\n  lazypull prefetch registry.example/app:1-esgz /usr/bin '/etc/**/*.conf'");
  command.action(async (image: string, paths: readonly string[], flags: Flags, self: Command) => {
    const [{ LazypullError }, { prefetchImage }, { loadFormats }, { parsePlatform }, { readPasswords, registryOptions }, { readPatterns }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../mount/host/prefetch.ts'),
      import('../app.ts'),
      import('../../oci/platform.ts'),
      import('../registry-flags.ts'),
      import('../format-flags.ts'),
    ]);
    const out = outputOf(app, self);
    const patterns = [...paths, ...(flags.prefetchList === undefined ? [] : await readPatterns(flags.prefetchList))];
    if (flags.all && patterns.length > 0) throw new LazypullError('USAGE', 'paths make no sense beside --all');
    const report = await prefetchImage({
      image,
      paths: patterns,
      ...(flags.all ? { all: true } : {}),
      loadFormats: () => loadFormats(app),
      registry: registryOptions(flags, await readPasswords(flags, app.io)),
      ...(flags.platform === undefined ? {} : { platform: parsePlatform(flags.platform) }),
      ...(flags.cacheDir === undefined ? {} : { cacheDir: flags.cacheDir }),
      ...(flags.cacheSize === undefined ? {} : { cacheBytes: flags.cacheSize }),
      env: app.io.env,
      signal: app.io.signal,
      onWarning: (text) => out.warn(text),
    });
    for (const pattern of report.unmatched) out.warn(`matches nothing in the image: ${pattern}`);
    if (out.json) await out.object(report);
    else await out.line(report.mount === undefined ? `fetched ${formatSize(report.fetched)} of ${formatSize(report.bytes)}` : `fetched ${formatSize(report.fetched)} of ${formatSize(report.bytes)} by way of ${report.mount}`);
  });
};
