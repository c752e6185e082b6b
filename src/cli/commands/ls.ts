import type { Command } from 'commander';
import type { FileNode } from '../../core/types.ts';
import type { AddCommand } from '../app.ts';
import type { Output } from '../output.ts';
import { addReadOptions, readImage, type ReadFlags } from '../read-image.ts';

interface Flags extends ReadFlags {
  readonly long?: boolean;
  readonly recursive?: boolean;
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
    .option('-R, --recursive', 'also list what is below');
  addReadOptions(command);
  command.addHelpText('after', '\nExample:\n  lazypull ls -l oci:./layout:app-esgz /usr/bin');
  command.action(async (text: string, path: string, flags: Flags, self: Command) => {
    const [{ LazypullError }, { compareNames, joinPath, walk }, { listedEntry }] = await Promise.all([
      import('../../core/errors.ts'),
      import('../../layer/walk.ts'),
      import('../listing.ts'),
    ]);
    const { signal } = app.io;
    await readImage(app, self, text, flags, async (image, out) => {
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
