import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { built } from './support/root.ts';

// node --test takes globs only from Node 21 on, so the files are listed here.
// Usage: node dist/test/run.js [unit|interop|all] [part of a file name...]
const [which = 'unit', ...parts] = process.argv.slice(2);
const folder = join(built, 'test');
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => which === 'all' || name.startsWith(`interop${sep}`) === (which === 'interop'))
  .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
  .map((name) => relative(process.cwd(), join(folder, name)))
  .sort();
const concurrency = which === 'unit' ? [] : ['--test-concurrency=1'];
const child = spawn(process.execPath, ['--import', pathToFileURL(join(folder, 'support', 'seed.js')).href, '--test', ...concurrency, '--test-reporter=spec', ...files], { stdio: 'inherit' });
child.on('exit', (code) => {
  process.exitCode = code ?? 1;
});
