#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { isMountProcess } from '../src/cli/mount-process.ts';

// Layers flow through in large lent buffers, and what is left for the garbage collector is small and short-lived: letting
// the young generation grow to its usual 3 x 16 MB would cost memory and win no time. The hot loops are WebAssembly: JavaScript
// that ran ten times longer than usual is soon enough to be optimized, otherwise the compiler takes a seventh of the processors'
// time of a conversion. A thread's own engine sets both back for all.
const setEngine = (): void => ['--semi-space-growth-factor=1', '--interrupt-budget=660000'].forEach(setFlagsFromString);
setEngine();
process.on('worker', (worker) => worker.once('online', setEngine));

const SIGNALS: ReadonlyMap<NodeJS.Signals, number> = new Map([['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]]);
/** What else a command may want to pass on. */
const PASSED_ON: readonly NodeJS.Signals[] = ['SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGCONT', 'SIGWINCH'];

const stop = new AbortController();
let received = 0;
let listener: ((signal: NodeJS.Signals) => void) | undefined;
for (const [name, number] of SIGNALS) {
  process.on(name, () => {
    if (listener) return listener(name);
    // The first one lets the command clean up, the second one does not wait for it.
    if (received) process.exit(128 + number);
    received = number;
    stop.abort();
  });
}

function takeSignals(next: (signal: NodeJS.Signals) => void): () => void {
  listener = next;
  for (const name of PASSED_ON) process.on(name, next);
  return () => {
    listener = undefined;
    for (const name of PASSED_ON) process.off(name, next);
  };
}

// What escapes every await is a bug. It must not look like one of the documented answers (Node would exit with 1).
process.on('uncaughtException', (error) => {
  process.stderr.write(`lazypull: internal error: ${process.argv.includes('--debug') ? (error.stack ?? error.message) : error.message}\n`);
  process.exit(70);
});

const { stdin, stdout, stderr, env } = process;
const argv = process.argv.slice(2);
const { main } = isMountProcess(argv) ? await import('./server.ts') : await import('./command.ts');
const code = await main(argv, { stdin, stdout, stderr, env, program: fileURLToPath(import.meta.url), signal: stop.signal, takeSignals });
// Idle keep-alive connections and worker threads must not hold the process up; all output was awaited.
process.exit(code === 130 && received ? 128 + received : code);
