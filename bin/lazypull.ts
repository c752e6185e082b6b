#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { builtinFormats } from '../formats/builtin.ts';
import { main } from '../src/cli/main.ts';

// Layers flow through in large lent buffers, and what is left for the garbage collector is small and short-lived: letting
// the young generation grow to its usual 3 x 16 MB would cost memory and win no time.
setFlagsFromString('--semi-space-growth-factor=1');

const SIGNALS: ReadonlyMap<NodeJS.Signals, number> = new Map([['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]]);

const stop = new AbortController();
let received = 0;
for (const [name, number] of SIGNALS) {
  process.on(name, () => {
    // The first one lets the command clean up, the second one does not wait for it.
    if (received) process.exit(128 + number);
    received = number;
    stop.abort();
  });
}
// What escapes every await is a bug. It must not look like one of the documented answers (Node would exit with 1).
process.on('uncaughtException', (error) => {
  process.stderr.write(`lazypull: internal error: ${process.argv.includes('--debug') ? (error.stack ?? error.message) : error.message}\n`);
  process.exit(70);
});

const { stdin, stdout, stderr, env } = process;
const code = await main(process.argv.slice(2), { stdin, stdout, stderr, env, signal: stop.signal }, builtinFormats);
// Idle keep-alive connections and worker threads must not hold the process up; all output was awaited.
process.exit(code === 130 && received ? 128 + received : code);
