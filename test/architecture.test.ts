import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { describe, it } from 'node:test';
import { built, root } from './support/root.ts';

/** Files that may be longer than the limit, each with its reason. */
const LONG_FILES: ReadonlyMap<string, string> = new Map([]);
const LINE_LIMIT = 400;
const GENERATED = 'src/codec/kernels/generated.ts';

/** The floors of the house. An area imports from lower floors only, and never from its neighbours. */
const FLOORS: readonly (readonly [RegExp, number])[] = [
  [/^bin$/, 7],
  [/^src\/cli$|^src\/index\.ts$/, 6],
  [/^formats$/, 5],
  [/^formats\/[^/]+$|^src\/mount$/, 4],
  [/^src\/(?:image|erofs)$/, 3],
  [/^src\/(?:oci|layer|codec|tar)$/, 2],
  [/^src\/core$/, 1],
];

interface Import {
  readonly from: string;
  readonly to: string;
  /** `eager` is loaded as soon as the importing file is; `thread` is the script of a worker. */
  readonly kind: 'eager' | 'lazy' | 'type' | 'thread';
}

const files = ['bin', 'src', 'formats'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('assembly/'))
    .map((name) => join(folder, name)),
).filter((name) => name !== GENERATED);
const sources = new Map(files.map((name) => [name, readFileSync(join(root, name), 'utf8')]));
const imports = files.flatMap(importsOf);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  dependencies: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  bin: Record<string, string>;
  exports: Record<string, string | Record<string, string>>;
};

function importsOf(file: string): Import[] {
  const text = sources.get(file) as string;
  const found: Import[] = [];
  const add = (to: string, kind: Import['kind']): void => void found.push({ from: file, to: to.startsWith('.') ? normalize(join(dirname(file), to)) : to, kind });
  for (const match of text.matchAll(/^(?:import|export)\s(type\s)?(?:[^'";]*?\sfrom\s)?'([^']+)'/gm)) add(match[2] as string, match[1] === undefined ? 'eager' : 'type');
  for (const match of text.matchAll(/\bimport\('([^']+)'\)/g)) add(match[1] as string, 'lazy');
  for (const match of text.matchAll(/new URL\('(\.[^']+)', import\.meta\.url\)/g)) add((match[1] as string).replace(/\.js$/, '.ts'), 'thread');
  return found;
}

function areaOf(file: string): string {
  const [top, second, third] = file.split('/') as [string, string, string | undefined];
  if (top === 'bin') return 'bin';
  if (top === 'formats') return third ? `formats/${second}` : 'formats';
  return `src/${second}`;
}

function floorOf(area: string): number {
  const floor = FLOORS.find(([pattern]) => pattern.test(area))?.[1];
  assert.ok(floor, `${area} is on no floor: give it one in this test and in the README`);
  return floor;
}

function packageOf(name: string): string {
  return name.split('/').slice(0, name.startsWith('@') ? 2 : 1).join('/');
}

/** Files reached from `start` by imports that are loaded at once. */
function eagerClosure(start: string): Set<string> {
  const seen = new Set([start]);
  for (const file of seen) for (const item of imports) if (item.from === file && item.kind === 'eager') seen.add(item.to);
  return seen;
}

describe('architecture', () => {
  it('finds the files it is about', () => {
    assert.ok(files.includes('bin/lazypull.ts') && files.includes('src/core/types.ts') && files.includes('formats/estargz/index.ts'));
    assert.ok(imports.length > files.length, 'imports are recognised');
  });

  it('imports only downwards, never sideways', () => {
    const wrong = imports.filter(({ from, to }) => {
      if (!sources.has(to) || areaOf(from) === areaOf(to)) return false;
      return floorOf(areaOf(to)) >= floorOf(areaOf(from));
    });
    assert.deepEqual(wrong.map(({ from, to }) => `${from} -> ${to}`), []);
  });

  it('hands formats in: nothing in src imports one', () => {
    assert.deepEqual(imports.filter(({ from, to }) => from.startsWith('src/') && to.startsWith('formats/')), []);
  });

  it('imports files that exist, with their .ts names', () => {
    const missing = imports.filter(({ to }) => /^(?:bin|src|formats|test|fixtures)\//.test(to) && to !== GENERATED && !sources.has(to) && !existsSync(join(root, to)));
    assert.deepEqual(missing.map(({ from, to }) => `${from} -> ${to}`), []);
  });

  it('has no import circle', () => {
    const state = new Map<string, 'open' | 'done'>();
    const circles: string[] = [];
    const visit = (file: string, way: readonly string[]): void => {
      if (state.get(file) === 'done') return;
      if (state.get(file) === 'open') return void circles.push([...way.slice(way.indexOf(file)), file].join(' -> '));
      state.set(file, 'open');
      // A worker's script starts anew in its own thread, so pointing at it closes no circle.
      for (const { from, to, kind } of imports) if (from === file && kind !== 'thread' && sources.has(to)) visit(to, [...way, file]);
      state.set(file, 'done');
    };
    for (const file of files) visit(file, []);
    assert.deepEqual(circles, []);
  });

  it('uses no package that package.json does not name', () => {
    const known = new Set([...Object.keys(manifest.dependencies), ...Object.keys(manifest.optionalDependencies ?? {})]);
    const unknown = imports.filter(({ to }) => !/^(?:bin|src|formats)\//.test(to) && !to.startsWith('node:') && !known.has(packageOf(to)));
    assert.deepEqual(unknown.map(({ from, to }) => `${from} -> ${to}`), []);
  });

  it('starts without loading what only some commands need', () => {
    const loaded = [...new Set([...eagerClosure('bin/lazypull.ts'), ...eagerClosure('bin/command.ts')])].filter((file) => !file.startsWith('src/cli/') && !file.startsWith('node:'));
    assert.deepEqual(loaded.sort(), ['bin/command.ts', 'bin/lazypull.ts', 'commander', 'formats/builtin.ts', 'src/core/errors.ts', 'src/core/version.ts']);
  });

  it('gives every format folder the same shape', () => {
    const folders = readdirSync(join(root, 'formats'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    assert.ok(folders.length > 0);
    for (const { name } of folders) {
      // What is only written, and has no structures of its own, has nothing to say in the first two.
      const files = name === 'oci' ? [] : ['layout.ts', 'read.ts'];
      for (const file of [...files, 'write.ts', 'index.ts', 'README.md']) assert.ok(existsSync(join(root, 'formats', name, file)), `formats/${name}/${file} is missing`);
      assert.ok(lines(`formats/${name}/index.ts`) <= 100, `formats/${name}/index.ts is wiring and stays under 100 lines`);
    }
  });

  it('keeps files short', () => {
    const long = files.filter((file) => lines(file) > LINE_LIMIT && !LONG_FILES.has(file));
    assert.deepEqual(long, [], 'where is the seam?');
    for (const [file] of LONG_FILES) assert.ok(lines(file) > LINE_LIMIT, `${file} is short again: take it off the list`);
  });

  it('names files in kebab-case and has no drawer', () => {
    for (const file of files) {
      assert.match(basename(file).replace(/(?:\.d)?\.ts$/, ''), /^[a-z0-9]+(?:-[a-z0-9]+)*$/, file);
      assert.doesNotMatch(file, /(?:^|\/)(?:utils?|helpers?|common|misc|shared)(?:\/|\.ts$)/, file);
    }
  });

  it('mirrors src in test', () => {
    const areas = new Set(files.filter((file) => file.startsWith('src/') && file.split('/').length > 2).map((file) => file.split('/')[1] as string));
    for (const area of areas) {
      const folder = join(root, 'test', area);
      assert.ok(existsSync(folder) && readdirSync(folder, { recursive: true, encoding: 'utf8' }).some((name) => name.endsWith('.test.ts')), `test/${area} holds no test`);
    }
  });

  it('prints in the command line only and exits in bin only', () => {
    for (const [file, text] of sources) {
      const code = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
      if (!file.startsWith('bin/')) assert.doesNotMatch(code, /process\.(?:exit|exitCode|abort|stdout|stderr|stdin)\b/, file);
      assert.doesNotMatch(code, /\bconsole\.\w+/, file);
    }
  });

  it('resolves every entry of the exports map, with types', () => {
    const folders = readdirSync(join(root, 'formats'), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => entry.name);
    for (const [name, target] of Object.entries(manifest.exports)) {
      if (typeof target === 'string') {
        assert.ok(existsSync(join(root, target)), name);
        continue;
      }
      for (const path of Object.values(target)) {
        for (const folder of name.includes('*') ? folders : ['']) {
          const file = join(built, path.replace('*', folder).replace(/^\.\/dist\//, ''));
          assert.ok(existsSync(file) && statSync(file).size > 0, `${name}: ${path} is not built`);
        }
      }
      assert.ok(target['types']?.endsWith('.d.ts') && Object.keys(target)[0] === 'types', `${name}: types come first`);
    }
    assert.ok(existsSync(join(built, (manifest.bin['lazypull'] as string).replace(/^dist\//, ''))));
  });

  it('ships a bundle that finds its threads and its native packages, and says whose code is in it', (t) => {
    const folder = join(built, 'program');
    if (!existsSync(folder)) return t.skip('nothing but tsc has run');
    const scripts = new Set(imports.filter(({ kind }) => kind === 'thread').map(({ to }) => basename(to, '.ts')));
    assert.ok(scripts.size >= 4, [...scripts].join());
    for (const script of [...scripts, 'server', 'lazypull']) assert.ok(existsSync(join(folder, `${script}.js`)), script);
    const licenses = readFileSync(join(folder, 'LICENSES.txt'), 'utf8');
    const inside = new Set([...licenses.matchAll(/^(\S+) \d+\.\d+\.\d+\S* \(/gm)].map(([, name]) => name));
    assert.ok(inside.has('undici') && inside.has('zod'), [...inside].join());
    // What loads a file beside itself would look for it beside the bundle.
    for (const name of [...Object.keys(manifest.optionalDependencies ?? {}), '@cloudpss/zstd']) assert.ok(!inside.has(name), name);
    const code = readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
    for (const name of ['koffi', '@napi-rs/blake-hash', '@cloudpss/zstd/napi', '@cloudpss/zstd/wasm']) assert.ok(code.includes(`("${name}")`) || code.includes(`(\`${name}\`)`) || code.includes(`('${name}')`), name);
  });

  it('says the same version everywhere', async () => {
    const { version } = await import('../src/core/version.ts');
    assert.equal(version, manifest.version);
    assert.match(readFileSync(join(root, 'CHANGELOG.md'), 'utf8'), new RegExp(`^## ${manifest.version.replaceAll('.', '\\.')}`, 'm'));
  });
});

function lines(file: string): number {
  return (sources.get(file) as string).split('\n').length - 1;
}
