// Puts the command, which tsc has compiled file by file, into few files: to find, read and link several hundred modules takes
// longer than the first requests to a registry. Usage: node bin/bundle.mjs [FOLDER]; FOLDER holds tsc's output, and gets `program`.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('..', import.meta.url));
const built = resolve(process.argv[2] ?? join(root, 'dist'));
const target = join(built, 'program');
const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Native, or seldom needed: found beside the program, and so what they look for beside themselves. */
const LEFT_OUT = [...Object.keys(optionalDependencies), '@cloudpss/zstd', 'hash-wasm'];
/** Its front door, which only proxies need. */
const FRONT_DOOR = 'undici';
/** What threads run: they find their scripts beside whoever starts them. */
const THREADS = /(?:^|[/-])worker\.js$/;
/** Started for every mount, while somebody waits: one file, and of each kind of its work nothing is executed before it is needed. */
const SERVER = './server.js';

const options = {
  platform: 'node',
  // Its schemas are plain values; without this every one of its forty languages would be kept.
  treeshake: { moduleSideEffects: [{ test: /[/\\]node_modules[/\\]zod[/\\]/, sideEffects: false }] },
  onLog(level, log, handle) {
    // One file on purpose.
    if (log.code !== 'INEFFECTIVE_DYNAMIC_IMPORT') handle(level === 'warn' ? 'error' : level, log);
  },
};
const external = (id) => id === FRONT_DOOR || LEFT_OUT.some((name) => id === name || id.startsWith(`${name}/`));
/** Folders of packages that are in the bundle. */
const taken = new Set();
const output = { dir: target, format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js', minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } } };

async function bundle(file, { split, ...more }) {
  const made = await rolldown({ ...options, external, input: { [basename(file, '.js')]: file }, ...more });
  const written = await made.write({ ...output, codeSplitting: split });
  for (const { moduleIds = [] } of written.output) for (const id of moduleIds) taken.add(/^.*[/\\]node_modules[/\\](?:@[^/\\]+[/\\])?[^/\\]+/.exec(id)?.[0] ?? '');
  await made.close();
}

/** Packages in the bundle ask for their copyright notices to be kept. */
function notices() {
  return [...taken].filter(Boolean).sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const texts = readdirSync(folder).filter((file) => /^(?:licen[cs]e|notice|copying)(?:\.|$)/i.test(file));
    if (texts.length === 0) throw new Error(`${name} comes without its license`);
    return [`${name} ${version} (${license})`, ...texts.map((file) => readFileSync(join(folder, file), 'utf8').trim())].join('\n\n');
  });
}

rmSync(target, { recursive: true, force: true });
const program = join(built, 'bin', 'lazypull.js');
await bundle(program, { split: true, plugins: [{ name: 'server', resolveId: (id, from) => (id === SERVER && from === program ? { id, external: true } : undefined) }] });
const threads = readdirSync(join(built, 'src'), { recursive: true }).filter((name) => THREADS.test(name));
for (const file of [join(built, 'bin', SERVER), ...threads.map((name) => join(built, 'src', name))]) await bundle(file, { split: false });
writeFileSync(join(target, 'LICENSES.txt'), `${notices().join(`\n\n${'-'.repeat(80)}\n\n`)}\n`);
