import { Argument, type Command } from 'commander';
import { printable } from '../../core/errors.ts';
import type { CacheEntry } from '../../mount/data/cache.ts';
import { outputOf, type AddCommand } from '../app.ts';
import { sizeArgument } from '../flags.ts';
import { addCacheDirOption } from '../mount-flags.ts';
import { formatTable } from '../table.ts';
import { count, formatSize, shortDigest } from '../units.ts';

interface Flags {
  readonly cacheDir?: string;
  readonly cacheSize?: number;
  readonly all?: boolean;
}

type Action = 'ls' | 'gc' | 'rm';

export const addCache: AddCommand = (program, app) => {
  const command = program
    .command('cache')
    .description('List and clean up what mounts keep on this machine')
    .addArgument(new Argument('<action>', 'ls lists it; gc removes what is of no use, and what is too much; rm removes what is named').choices(['ls', 'gc', 'rm']))
    .argument('[name...]', 'for rm: names or digests as ls prints them, or images')
    .option('--all', 'for rm: everything that nobody uses');
  addCacheDirOption(command);
  command
    .option('--cache-size <size>', 'for gc: what may stay (10G, 500M; default: everything that is of use)', sizeArgument(0))
    .addHelpText('after', `
IMAGE is what it was mounted as; IN USE are processes, or pinned for what may
be read without one. What a running mount uses is never removed. What a mount without a server uses
stays on disk until it is unmounted, although it is no longer listed.

Examples:
  lazypull cache ls
  lazypull cache gc --cache-size 2G`);
  command.action(async (action: Action, names: readonly string[], flags: Flags, self: Command) => {
    const [{ LazypullError }, { MountCache }, { defaultCacheDir }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../mount/data/cache.ts'),
      import('../../mount/data/folder.ts'),
    ]);
    if (action !== 'rm' && (names.length > 0 || flags.all)) throw new LazypullError('USAGE', `names and --all are for rm, not for ${action}`);
    if (action === 'rm' && names.length === 0 && !flags.all) throw new LazypullError('USAGE', 'name what is to be removed, or give --all');
    if (action !== 'gc' && flags.cacheSize !== undefined) throw new LazypullError('USAGE', `--cache-size is for gc, not for ${action}`);
    const out = outputOf(app, self);
    const cache = await MountCache.open(flags.cacheDir ?? defaultCacheDir(app.io.env), action === 'gc' && flags.cacheSize !== undefined ? { maxBytes: flags.cacheSize } : {});
    try {
      if (action === 'ls') {
        const entries = await cache.list();
        if (out.json) await out.object({ dir: cache.dir, entries });
        else await out.line(cacheTable(entries));
        return;
      }
      const matched = new Set<string>();
      const report = action === 'gc' ? await cache.gc() : await cache.remove((entry) => flags.all === true || names.some((name) => names.length > 0 && isNamed(entry, name) && matched.add(name)));
      const missing = action === 'rm' ? names.filter((name) => !matched.has(name)) : [];
      if (!flags.all && missing.length > 0) throw new LazypullError('NOT_FOUND', `not in the cache: ${missing.join(', ')}`);
      if (out.json) await out.object(report);
      else await out.line(`removed ${count(report.removed, 'file')}, ${formatSize(report.freedBytes)} freed${report.kept === 0 ? '' : `; ${report.kept} in use stay`}`);
    } finally {
      await cache.close();
    }
  });
};

/** Names and digests may be cut short as `ls` prints them. */
function isNamed(entry: CacheEntry, name: string): boolean {
  const short = /^(?:sha256:)?[0-9a-f]{12,}$/.test(name);
  const starts = (text: string | undefined): boolean => text !== undefined && (text === name || (short && (text.startsWith(name) || text.startsWith(`sha256:${name}`))));
  return starts(entry.name) || starts(entry.layer) || entry.manifests.some(starts) || entry.images.some((image) => image === name || image.replace(/^docker:\/\//, '').replace(' ', ':') === name.replace(/^docker:\/\//, ''));
}

/** What it is of, as it was called when it was mounted. */
function imageOf([first, ...more]: readonly string[], manifests: readonly string[]): string {
  if (first === undefined) return manifests[0] ? shortDigest(manifests[0]) : '-';
  const [place = '', reference = ''] = first.replace(/^docker:\/\//, '').split(' ');
  const named = reference === '' ? place : reference.includes(':') ? `${place}@${shortDigest(reference)}` : `${place}:${reference}`;
  return `${printable(named)}${more.length > 0 ? ` +${more.length}` : ''}`;
}

function cacheTable(entries: readonly CacheEntry[]): string {
  const rows = entries.map(({ kind, name, layer, images, manifests, size, localBytes, diskBytes, used, users, sealed }) => [
    kind,
    name.slice(0, 12),
    layer ? shortDigest(layer) : '-',
    imageOf(images, manifests),
    formatSize(size),
    size === 0 ? '100%' : `${Math.floor((localBytes / size) * 100)}%`,
    formatSize(diskBytes),
    used.toISOString().slice(0, 16).replace('T', ' '),
    users > 0 ? `${users}` : sealed ? 'pinned' : '-',
  ]);
  const total = entries.reduce((sum, { diskBytes }) => sum + diskBytes, 0);
  const table = formatTable(
    [{ title: 'KIND' }, { title: 'NAME' }, { title: 'LAYER' }, { title: 'IMAGE' }, { title: 'SIZE', align: 'right' }, { title: 'LOCAL', align: 'right' }, { title: 'DISK', align: 'right' }, { title: 'USED' }, { title: 'IN USE', align: 'right' }],
    rows,
  );
  return `${table}\n${count(entries.length, 'entry', 'entries')}, ${formatSize(total)}`;
}
