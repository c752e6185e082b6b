import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

/** What a container is started for, and how it is seen from outside that it has got there. */
export interface Workload {
  /** Of the image. */
  readonly command: readonly string[];
  /** Printed by it, or the page that it serves on the machine's network. */
  readonly ready: { readonly prints: string } | { readonly answers: number };
}

const python = (code: string): Workload => ({ command: ['python3', '-c', `${code}; print("got there", flush=True)`], ready: { prints: 'got there' } });

/** By the tag of the image. */
export const WORKLOADS: Readonly<Record<string, Workload>> = {
  debian: { command: ['sh', '-c', 'echo got there'], ready: { prints: 'got there' } },
  nginx: { command: ['nginx', '-g', 'daemon off;'], ready: { answers: 80 } },
  python: python('import numpy'),
  torch: python('import torch'),
};

/** Milliseconds. */
const PATIENCE = 300_000;
const LOOK = 4;

/** Whether something answers on a port of this machine. */
export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ host: '127.0.0.1', port, path: '/', agent: false, timeout: 2000 }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve((answer.statusCode ?? 0) > 0));
    });
    asked.on('error', () => resolve(false));
    asked.end();
  });
}

/** Starts a command that runs a workload: seconds until that is ready. The command has ended by then, told to by `stop` if it does not by itself. */
export async function untilReady(command: readonly string[], env: Readonly<Record<string, string>>, { ready }: Workload, stop: NodeJS.Signals = 'SIGTERM'): Promise<number> {
  const [program = '', ...args] = command;
  const started = performance.now();
  const child = spawn(program, args, { env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C.UTF-8', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [said, complained] = ['', ''];
  let at: number | undefined;
  const ended = new Promise<number | string | null>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code ?? signal));
  });
  child.stderr.on('data', (piece: Buffer) => (complained = (complained + piece.toString()).slice(-4000)));
  child.stdout.on('data', (piece: Buffer) => {
    said += piece.toString();
    if ('prints' in ready && said.includes(ready.prints)) at ??= performance.now();
  });
  const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
  let running = true;
  void ended.then(() => (running = false));
  if ('answers' in ready) {
    while (running && !(await answers(ready.answers))) await wait(LOOK);
    if (running) at = performance.now();
    child.kill(stop);
  }
  const code = await ended;
  clearTimeout(late);
  if (at === undefined) throw new Error(`${command.join(' ')} ended with ${code} before it was ready: ${complained}`);
  return (at - started) / 1000;
}
