import { Option, type Command } from 'commander';
import type { MountOptions } from '../mount/host/options.ts';
import type { App } from './app.ts';
import { addPlatformOption, integerArgument, sizeArgument } from './flags.ts';
import type { Io } from './io.ts';
import { MOUNT_PROCESS } from './mount-process.ts';
import type { Output } from './output.ts';
import { addRegistryOptions, type RegistryFlags } from './registry-flags.ts';

/** The flags of every command that mounts an image. */
export interface MountFlags extends RegistryFlags {
  readonly backend?: 'auto' | 'erofs' | 'fuse';
  readonly platform?: string;
  readonly prefetchList?: string;
  readonly record?: string;
  /** False with `--no-prefetch`. */
  readonly prefetch?: boolean;
  readonly fill?: boolean;
  readonly cacheDir?: string;
  readonly cacheSize?: number;
  readonly readTimeout?: number;
  readonly metricsListen?: string;
  readonly log?: string;
}

export function addCacheDirOption(command: Command): void {
  command.option('--cache-dir <dir>', 'where content is kept (default: $LAZYPULL_CACHE_DIR, else /var/cache/lazypull for root, ~/.cache/lazypull for others)');
}

/** Adds them, those of registries included. */
export function addMountOptions(command: Command): void {
  command.addOption(new Option('--backend <name>', 'who shows the files: erofs is the kernel (needs root), fuse is lazypull').choices(['auto', 'erofs', 'fuse']).default('auto'));
  addPlatformOption(command, "this machine's");
  command
    .option('--prefetch-list <file>', 'files to fetch ahead: one path or glob per line, or what --record wrote')
    .option('--record <file>', 'write a prefetch list of what is read, with parts of files, when the mount ends (slower; by FUSE)')
    .option('--no-prefetch', 'do not fetch ahead what the image itself names')
    .option('--fill', 'fetch everything else, too, when nobody asks for anything');
  addCacheDirOption(command);
  command
    .option('--cache-size <size>', 'what the cache may grow to (10G, 500M; default 10G)', sizeArgument(1 << 20))
    .option('--read-timeout <seconds>', 'after which a read fails (default 60)', integerArgument(1, 86_400))
    .option('--metrics-listen <host:port>', 'serve metrics for Prometheus there, at /metrics')
    .option('--log <file>', 'append the log, one JSON object per line, to this file');
  addRegistryOptions(command);
}

/** How the processes of a mount are started. What they keep is in buffers and shared memory: a young generation of the usual size would only be more to hold. */
export function mountProgram({ program }: Io): readonly string[] {
  return [process.execPath, '--max-semi-space-size=2', program, MOUNT_PROCESS];
}

/** What they say, for `startMount`; warnings are printed. */
export async function mountOptions(app: App, out: Output, flags: MountFlags): Promise<Omit<MountOptions, 'image' | 'dir'>> {
  const [{ parsePlatform }, { readPasswords, registryOptions }, { readPatterns }] = await Promise.all([import('../oci/platform.ts'), import('./registry-flags.ts'), import('./format-flags.ts')]);
  const { backend, platform, prefetchList, record, prefetch, fill, cacheDir, cacheSize, readTimeout, metricsListen, log } = flags;
  const registry = registryOptions(flags, await readPasswords(flags, app.io));
  return {
    program: mountProgram(app.io),
    registry,
    ...(backend === undefined ? {} : { backend }),
    ...(platform === undefined ? {} : { platform: parsePlatform(platform) }),
    ...(prefetchList === undefined ? {} : { prefetch: await readPatterns(prefetchList) }),
    ...(record === undefined ? {} : { record }),
    imagePrefetch: prefetch !== false,
    ...(fill ? { fill } : {}),
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(cacheSize === undefined ? {} : { cacheBytes: cacheSize }),
    ...(readTimeout === undefined ? {} : { readTimeout: readTimeout * 1000 }),
    ...(metricsListen === undefined ? {} : { metricsListen }),
    ...(log === undefined ? {} : { log }),
    env: app.io.env,
    signal: app.io.signal,
    onWarning: (text) => out.warn(text),
  };
}
