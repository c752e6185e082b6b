import type { Command } from 'commander';
import type { OpenImage } from '../image/open.ts';
import { loadFormats, outputOf, type App } from './app.ts';
import { addPlatformOption } from './flags.ts';
import type { Output } from './output.ts';
import { addRegistryOptions, type RegistryFlags } from './registry-flags.ts';

/** The flags of every command that reads files of a lazy image. */
export interface ReadFlags extends RegistryFlags {
  readonly stats?: boolean;
  readonly platform?: string;
}

/** Adds them. */
export function addReadOptions(command: Command): void {
  command.option('--stats', 'say on standard error how much was fetched');
  addPlatformOption(command, "this machine's");
  addRegistryOptions(command);
}

/** Opens the image that a command was given, warns of what there is to warn of, and closes it after `work`. */
export async function readImage(app: App, self: Command, text: string, flags: ReadFlags, work: (image: OpenImage, out: Output) => Promise<void>): Promise<void> {
  const [{ openImage }, { parsePlatform }, { Places }, { readStats }] = await Promise.all([
    import('../image/open.ts'),
    import('../oci/platform.ts'),
    import('./places.ts'),
    import('./read-stats.ts'),
  ]);
  const out = outputOf(app, self);
  const options = { signal: app.io.signal, ...(flags.platform ? { platform: parsePlatform(flags.platform) } : {}) };
  await Places.use(app, out, flags, async (places) => {
    const image = await openImage(await places.open(text), await loadFormats(app), options);
    for (const warning of image.warnings) out.warn(warning);
    await work(image, out);
    if (flags.stats && !out.readerGone) out.say(readStats(image));
  });
}
