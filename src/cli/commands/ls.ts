import type { Command } from 'commander';
import type { FileNode } from '../../core/types.ts';
import { loadFormats, outputOf, type AddCommand } from '../app.ts';
import { addPlatformOption } from '../flags.ts';
import type { Output } from '../output.ts';
import { addRegistryOptions, type RegistryFlags } from '../registry-flags.ts';

interface Flags extends RegistryFlags {
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly stats?: boolean;
  readonly platform?: string;
}

interface Row {
  /** As it is shown. */
  readonly name: string;
  /** In the image, absolute. */
  readonly path: string;
  readonly node: FileNode;
}

/** Rows are put together into pieces of about this many bytes. */
const PIECE = 64 * 1024;

export const addLs: AddCommand = (program, app) => {
  const command = program
    .command('ls')
    .description('List files of a lazy image, without pulling it')
    .argument('<image>', 'the image')
    .argument('[path]', 'a directory or file in it', '/')
    .option('-l, --long', 'also show permissions, owner, size, time (UTC) and link target')
    .option('-R, --recursive', 'also list what is below')
    .option('--stats', 'say on standard error how much was fetched');
  addPlatformOption(command, "this machine's");
  addRegistryOptions(command);
  command.addHelpText('after', '\nExample:\n  lazypull ls -l oci:./layout:app-esgz /usr/bin');
  command.action(async (text: string, path: string, flags: Flags, self: Command) => {
    const [{ LazypullError }, { openImage }, { parsePlatform }, { compareNames, joinPath, walk }, { Places }, { readStats }, { listedEntry }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../image/open.ts'),
      import('../../oci/platform.ts'),
      import('../../layer/walk.ts'),
      import('../places.ts'),
      import('../read-stats.ts'),
      import('../listing.ts'),
    ]);
    const out = outputOf(app, self);
    const { signal } = app.io;
    const options = { signal, ...(flags.platform ? { platform: parsePlatform(flags.platform) } : {}) };
    await Places.use(app, out, flags, async (places) => {
      const place = await places.open(text);
      const image = await openImage(place, await loadFormats(app), options);
      for (const warning of image.warnings) out.warn(warning);
      // Like ls, -l shows a symlink itself; a trailing slash asks for what it leads to.
      const found = await image.find(path, { followSymlinks: !flags.long, signal });
      if (!found) throw new LazypullError('NOT_FOUND', 'no such file in the image', { path });
      const { node } = found;
      const rows: Row[] = [];
      if (node.type === 'directory') {
        const below = flags.recursive
          ? [...walk(node, { sorted: true })].slice(1)
          : [...node.children].sort(([a], [b]) => compareNames(a, b)).map(([name, child]) => ({ path: name, node: child }));
        for (const { path: name, node: child } of below) rows.push({ name, path: `/${joinPath(found.path, name)}`, node: child });
      } else {
        rows.push({ name: path, path: `/${found.path}`, node });
      }
      if (out.json) await out.object({ digest: image.descriptor.digest, path: `/${found.path}`, entries: rows.map((row) => listedEntry(row.path, row.node)), stats: image.stats() });
      else await print(rows, flags.long ?? false, out);
      if (flags.stats) out.say(readStats(image));
    });
  });
};

async function print(rows: readonly Row[], long: boolean, out: Output): Promise<void> {
  const [{ encodeName, concat }, { longColumns, terminalName }] = await Promise.all([import('../../core/bytes.ts'), import('../listing.ts')]);
  // A terminal gets escapes for what could control it; a pipe gets the names' own bytes.
  const bytesOf = (name: string): Uint8Array => (out.toTerminal ? Buffer.from(terminalName(name)) : encodeName(name));
  const columns = long ? rows.map(({ node }) => longColumns(node)) : [];
  const widths = [0, 1, 2, 3].map((i) => columns.reduce((width, row) => Math.max(width, (row[i] as string).length), 0));
  let piece: Uint8Array[] = [];
  let size = 0;
  for (const [i, { name, node }] of rows.entries()) {
    const facts = columns[i]?.map((cell, k) => (k === 2 ? cell.padStart(widths[k] as number) : cell.padEnd(widths[k] as number))).join(' ');
    const parts = [...(facts ? [Buffer.from(`${facts} `)] : []), bytesOf(name)];
    if (long && node.type === 'symlink') parts.push(Buffer.from(' -> '), bytesOf(node.target));
    piece.push(...parts, Buffer.from('\n'));
    size += name.length;
    if (size >= PIECE) {
      await out.write(concat(piece));
      if (out.readerGone) return;
      piece = [];
      size = 0;
    }
  }
  await out.write(concat(piece));
}
