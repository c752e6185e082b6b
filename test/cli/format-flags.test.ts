import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Command } from 'commander';
import { builtinFormats } from '../../formats/builtin.ts';
import { resolveOptions, type EstargzOptions } from '../../formats/estargz/options.ts';
import { addFormatOptions, chooseFormats, chooseIndexing, formatsOption } from '../../src/cli/format-flags.ts';
import type { FormatChoice } from '../../src/core/format.ts';
import type { FormatEntry } from '../../src/core/format-entry.ts';
import { testIndexing } from '../image/indexing-format.ts';
import { tempFolder } from './tiny.ts';

const estargz = builtinFormats.find(({ name }) => name === 'estargz') as FormatEntry;
const other: FormatEntry = { name: 'other', summary: '', rewrites: true, options: [{ key: 'chunk', flag: 'chunk-size', kind: 'size', help: '' }, { key: 'turbo', flag: 'turbo', kind: 'switch', help: '' }], load: estargz.load };
const index: FormatEntry = {
  name: 'index', summary: '', rewrites: false, load: async () => testIndexing('index').format,
  options: [{ key: 'hot', flag: 'prefetch-list', kind: 'patterns', help: '' }, { key: 'turbo', flag: 'turbo', kind: 'switch', help: '' }],
};

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
    const [{ format, options }] = (await chooseFormats(builtinFormats, ['estargz'], flags)) as [FormatChoice];
    assert.equal(format.name, 'estargz');
    assert.deepEqual(options, { chunkSize: 65536, minChunkSize: 0, level: 9, prefetch: ['/usr/bin/*', 'etc/passwd'], externalToc: true });
    assert.deepEqual(Object.keys(resolveOptions(options as EstargzOptions)).sort(), estargz.options.map(({ key }) => key).sort(), 'every option of the format has a flag');
  });

  it('leaves defaults to the format', async () => {
    assert.deepEqual((await chooseFormats(builtinFormats, ['estargz'], parse([]))).map(({ options }) => options), [{}]);
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

  it('refuses a flag of another format, and gives a flag to all who know it', async (t) => {
    const all = [estargz, other, index];
    const chosen = async (names: readonly string[], ...argv: string[]): Promise<unknown[]> =>
      (await chooseFormats(all, names, parse(argv, all))).map(({ format, options }) => [format.name, options]);
    await assert.rejects(chosen(['estargz'], '--turbo'), { code: 'USAGE', message: '--turbo is not an option of estargz' });
    assert.deepEqual(await chosen(['other'], '--chunk-size', '2K', '--turbo'), [['estargz', { chunk: 2048, turbo: true }]]);
    const list = join(await tempFolder(t), 'list');
    await writeFile(list, 'etc/*\n');
    assert.deepEqual(await chosen(['estargz', 'index', 'estargz'], '--prefetch-list', list, '--turbo', '--level', '1'), [
      ['estargz', { prefetch: ['etc/*'], level: 1 }], ['index', { hot: ['etc/*'], turbo: true }],
    ]);
    await assert.rejects(chosen(['index'], '--level', '1'), { code: 'USAGE', message: '--level is not an option of index' });
    await assert.rejects(chosen(['estargz', 'index', 'other']), { code: 'USAGE', message: 'estargz and other both make new layers: an image can have only one of them' });
  });

  it('reads the names of formats as lists', () => {
    const read = (...argv: string[]): unknown => new Command().exitOverride().configureOutput({ outputError: () => {} }).addOption(formatsOption([estargz, index])).parse(argv, { from: 'user' }).opts()['format'];
    assert.equal(read(), undefined);
    assert.deepEqual(read('--format', 'index'), ['index']);
    assert.deepEqual(read('--format', 'estargz, index'), ['estargz', 'index']);
    assert.deepEqual(read('--format', 'index', '--format', 'estargz'), ['index', 'estargz']);
    for (const wrong of ['', 'zip', 'estargz,', 'estargz,zip']) assert.throws(() => read('--format', wrong), /Allowed choices are estargz, index\./, wrong);
  });

  it('says in the help which formats know a flag', () => {
    const command = new Command();
    addFormatOptions(command, [estargz, other, index]);
    const groups = new Map(command.options.map(({ long, helpGroupHeading }) => [long, helpGroupHeading]));
    assert.equal(groups.get('--prefetch-list'), 'Options of --format estargz and index:');
    assert.equal(groups.get('--level'), 'Options of --format estargz:');
    assert.equal(groups.get('--turbo'), 'Options of --format other and index:');
  });

  it('chooses a format for index', async () => {
    assert.equal((await chooseIndexing([estargz, index], 'index', {})).format.name, 'index');
    await assert.rejects(chooseIndexing([estargz, index], 'estargz', {}), { code: 'USAGE' });
  });

  it('reports a list that is not there', async () => {
    await assert.rejects(chooseFormats(builtinFormats, ['estargz'], { prefetchList: '/nowhere/list' }), { code: 'IO', path: '/nowhere/list' });
  });
});
