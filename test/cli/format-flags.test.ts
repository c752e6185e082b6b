import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Command } from 'commander';
import { builtinFormats } from '../../formats/builtin.ts';
import { resolveOptions } from '../../formats/estargz/options.ts';
import { addFormatOptions, chooseFormat } from '../../src/cli/format-flags.ts';
import type { FormatEntry } from '../../src/core/format-entry.ts';
import { tempFolder } from './tiny.ts';

const [estargz] = builtinFormats as [FormatEntry];
const other: FormatEntry = { name: 'other', summary: '', options: [{ key: 'chunk', flag: 'chunk-size', kind: 'size', help: '' }, { key: 'turbo', flag: 'turbo', kind: 'switch', help: '' }], load: estargz.load };

function parse(argv: readonly string[], formats: readonly FormatEntry[] = builtinFormats): Record<string, unknown> {
  const command = new Command().exitOverride().configureOutput({ outputError: () => {} });
  addFormatOptions(command, formats);
  return command.parse(argv, { from: 'user' }).opts();
}

describe('format flags', () => {
  it('turns flags into the options of the format', async (t) => {
    const list = join(await tempFolder(t), 'list');
    await writeFile(list, '# first\n/usr/bin/*\r\n\n  etc/passwd  \n');
    const flags = parse(['--chunk-size', '64K', '--min-chunk-size', '0', '--level', '9', '--prefetch-list', list, '--external-toc']);
    const { format, options } = await chooseFormat(builtinFormats, 'estargz', flags);
    assert.equal(format.name, 'estargz');
    assert.deepEqual(options, { chunkSize: 65536, minChunkSize: 0, level: 9, prefetch: ['/usr/bin/*', 'etc/passwd'], externalToc: true });
    assert.deepEqual(Object.keys(resolveOptions(options)).sort(), estargz.options.map(({ key }) => key).sort(), 'every option of the format has a flag');
  });

  it('leaves defaults to the format', async () => {
    assert.deepEqual((await chooseFormat(builtinFormats, 'estargz', parse([]))).options, {});
  });

  it('tells the defaults that the format has', () => {
    const { chunkSize, minChunkSize, level } = resolveOptions({});
    const help = (key: string): string => estargz.options.find((option) => option.key === key)?.help ?? '';
    assert.match(help('chunkSize'), new RegExp(`default ${chunkSize / 1024 ** 2}M`));
    assert.match(help('minChunkSize'), new RegExp(`default ${minChunkSize}`));
    assert.match(help('level'), new RegExp(`default ${level}`));
  });

  it('has the bounds that the format has', () => {
    for (const { key, kind, min, max } of estargz.options) {
      if (kind !== 'size' && kind !== 'integer') continue;
      resolveOptions({ [key]: min });
      resolveOptions({ [key]: max });
      assert.throws(() => resolveOptions({ [key]: (max as number) + 1 }), { code: 'USAGE' }, key);
      assert.throws(() => resolveOptions({ [key]: (min as number) - 1 }), { code: 'USAGE' }, key);
    }
  });

  it('refuses a flag of another format, and shares a flag of both', async () => {
    const both = [estargz, other];
    await assert.rejects(chooseFormat(both, 'estargz', parse(['--turbo'], both)), { code: 'USAGE', message: '--turbo is not an option of --format estargz' });
    assert.deepEqual((await chooseFormat(both, 'other', parse(['--chunk-size', '2K', '--turbo'], both))).options, { chunk: 2048, turbo: true });
  });

  it('reports a list that is not there', async () => {
    await assert.rejects(chooseFormat(builtinFormats, 'estargz', { prefetchList: '/nowhere/list' }), { code: 'IO', path: '/nowhere/list' });
  });
});
