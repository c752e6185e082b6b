// Puts the command, which tsc has compiled file by file, into few files: to find, read and link several hundred modules takes
// longer than the first requests to a registry. Usage: node bin/bundle.mjs [FOLDER]; FOLDER holds tsc's output, and gets `program`.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('..', import.meta.url));
const built = resolve(process.argv[2] ?? join(root, 'dist'));
const target = join(built, 'program');
const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** Native or seldom needed, and found beside the program: the last is undici's front door, which only proxies need. */
const LEFT_OUT = new Set([...Object.keys(optionalDependencies), '@cloudpss/zstd', '@cloudpss/zstd/wasm', 'hash-wasm', 'undici']);
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
const external = (id) => LEFT_OUT.has(id);
const output = { dir: target, format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js', minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } } };

async function bundle(file, { split, ...more }) {
  const made = await rolldown({ ...options, external, input: { [basename(file, '.js')]: file }, ...more });
  await made.write({ ...output, codeSplitting: split });
  await made.close();
}

rmSync(target, { recursive: true, force: true });
const program = join(built, 'bin', 'lazypull.js');
await bundle(program, { split: true, plugins: [{ name: 'server', resolveId: (id, from) => (id === SERVER && from === program ? { id, external: true } : undefined) }] });
const threads = readdirSync(join(built, 'src'), { recursive: true }).filter((name) => THREADS.test(name));
for (const file of [join(built, 'bin', SERVER), ...threads.map((name) => join(built, 'src', name))]) await bundle(file, { split: false });
