import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { built } from './support/root.ts';

// node --test takes globs only from Node 21 on, so the files are listed here.
// Usage: node dist/test/run.js [unit|interop|all] [part of a file name...]
const [which = 'unit', ...parts] = process.argv.slice(2);

/** Files that look at the whole machine (control groups of containers), where others would leave traces. */
const ALONE = new Set(['run.test.js']);

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

const folder = join(built, 'test');
const isInterop = (name: string): boolean => name.startsWith(`interop${sep}`);
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => which === 'all' || isInterop(name) === (which === 'interop'))
  .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
  .sort();
const alone = files.filter((name) => isInterop(name) && ALONE.has(basename(name)));
const together = files.filter((name) => !alone.includes(name));

// What several files need is made once, see support/shared.ts. Containers' users look into it, too.
const shared = mkdtempSync(join(tmpdir(), 'lazypull-shared-'));
chmodSync(shared, 0o755);

let told: NodeJS.Signals | undefined;

/** The exit status of one run of the test runner. What tells us to end, tells it. */
async function run(names: readonly string[], concurrency: number): Promise<number> {
  if (names.length === 0 || told) return told ? 1 : 0;
  const seed = pathToFileURL(join(folder, 'support', 'seed.js')).href;
  const paths = names.map((name) => relative(process.cwd(), join(folder, name)));
  const runner = spawn(process.execPath, ['--import', seed, '--test', `--test-concurrency=${concurrency}`, '--test-reporter=spec', ...paths], { stdio: 'inherit', env: { ...process.env, LAZYPULL_SHARED: shared } });
  const end = (signal: NodeJS.Signals): void => {
    told = signal;
    runner.kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, end);
  const [code] = (await once(runner, 'exit')) as [number | null];
  for (const signal of SIGNALS) process.off(signal, end);
  return code ?? 1;
}

const statuses = [await run(together, Math.max(2, availableParallelism())), await run(alone, 1)];
rmSync(shared, { recursive: true, force: true });
process.exitCode = Math.max(...statuses);
