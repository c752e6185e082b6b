import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../src/mount/run/runtime.ts';

/** Running other people's tools in tests: found on PATH, given a time limit, and ended with everything they started. */

/** The part of a test's context that peers need; the fixture generator has one of its own. */
export interface Scope {
  after(undo: () => unknown): void;
  skip(reason: string): void;
  diagnostic(message: string): void;
}

/** Full path of a program, or undefined when it is not installed. */
export function findTool(name: string): string | undefined {
  return findProgram(name, process.env);
}

/** Whether all tools are there; otherwise the test is skipped, visibly and with the reason. */
export function haveTools(t: Scope, ...names: readonly string[]): boolean {
  const missing = names.filter((name) => findTool(name) === undefined);
  if (missing.length === 0) return true;
  t.skip(`${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not installed`);
  return false;
}

/** Mounts, device nodes and foreign owners need root. */
export function haveRoot(t: Scope): boolean {
  if (process.getuid?.() === 0) return true;
  t.skip('needs root');
  return false;
}

const cleanups = new WeakMap<Scope, (() => unknown)[]>();

/** Runs `undo` when the test ends, however it ends: last in, first out, and each even if another one fails. */
export function defer(t: Scope, undo: () => unknown): void {
  const known = cleanups.get(t);
  if (known) {
    known.push(undo);
    return;
  }
  const stack = [undo];
  cleanups.set(t, stack);
  t.after(async () => {
    const failures: unknown[] = [];
    for (const next of stack.reverse()) {
      try {
        await next();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, `cleaning up failed: ${failures.map(String).join('; ')}`);
  });
}

/** A folder that is gone after the test, with whatever is still mounted below it. */
export function scratch(t: Scope): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-')));
  defer(t, async () => {
    await unmountBelow(path);
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  });
  return path;
}

/** Takes away all mounts below a folder, the newest first. Fails if one stays: deleting must not reach into a mount. */
export async function unmountBelow(folder: string): Promise<void> {
  const mounted = (): string[] => readFileSync('/proc/self/mounts', 'utf8').split('\n').map((line) => line.split(' ')[1] ?? '').filter((at) => at.startsWith(`${folder}/`)).reverse();
  if (!existsSync('/proc/self/mounts')) return;
  for (const at of mounted()) await run('umount', ['-l', at]);
  assert.deepEqual(mounted(), [], 'mounts are left');
}

// Process groups that are alive. Should this process be told to end, they end too.
const groups = new Set<number>();
process.on('exit', () => {
  for (const pid of groups) endGroup(pid, 'SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

function endGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // gone already
  }
}

export interface RunOptions {
  readonly cwd?: string;
  /** Added to a small clean environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds until the whole process group is killed; default two minutes. */
  readonly timeout?: number;
  readonly input?: Uint8Array;
  /** Called once with the process, for tests that send it signals. */
  readonly started?: (child: ChildProcess) => void;
}

export interface Ran {
  readonly command: string;
  /** Exit status; null after a signal. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** Standard output as text. */
  readonly text: string;
}

/** Nothing of the developer's own configuration reaches a peer: no home, no docker config, no proxy. */
function cleanEnvironment(extra: RunOptions['env']): Record<string, string> {
  const base = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, HOME: '/nonexistent', LC_ALL: 'C.UTF-8', TMPDIR: tmpdir(), ...extra };
  return Object.fromEntries(Object.entries(base).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** Runs a program to its end and returns what it said, whatever its exit status. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawn(command, args, { cwd: options.cwd, env: cleanEnvironment(options.env), detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
  const shown = [command, ...args].join(' ');
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => stdout.push(piece));
  child.stderr.on('data', (piece: Buffer) => stderr.push(piece));
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input);
  const { pid } = child;
  if (pid !== undefined) groups.add(pid);
  options.started?.(child);
  const limit = options.timeout ?? 120_000;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    if (pid !== undefined) endGroup(pid, 'SIGKILL');
  }, limit);
  try {
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (...result) => resolve(result));
      // A shim that outlives its parent holds the pipes open; what the parent said has arrived long before.
      child.once('exit', (...result) => setTimeout(() => resolve(result), 3000).unref());
    });
    assert.ok(!late, `${shown}: not done after ${limit / 1000} s\n${Buffer.concat(stderr).toString()}`);
    const out = Buffer.concat(stdout);
    return { command: shown, code, signal, stdout: out, stderr: Buffer.concat(stderr).toString(), text: out.toString() };
  } finally {
    clearTimeout(timer);
    if (pid !== undefined) groups.delete(pid);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

/** As `run`, but a status other than 0 fails the test with everything that was said. */
export async function must(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran = await run(command, args, options);
  assert.equal(ran.code, 0, `${ran.command}: status ${ran.code ?? ran.signal}\n${ran.text.slice(-2000)}\n${ran.stderr.slice(-4000)}`);
  return ran;
}

export interface Service {
  /** What the `ready` pattern found. */
  readonly ready: RegExpMatchArray;
  /** Everything printed so far. */
  log(): string;
  stop(): Promise<void>;
}

/** Starts a server, waits until its output matches `ready`, and ends it after the test: SIGTERM first, SIGKILL after ten seconds. */
export async function serve(t: Scope, command: string, args: readonly string[], ready: RegExp, options: RunOptions = {}): Promise<Service> {
  const child = spawn(command, args, { cwd: options.cwd, env: cleanEnvironment(options.env), detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const { pid } = child;
  if (pid !== undefined) groups.add(pid);
  let said = '';
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  }).then(() => {
    if (pid !== undefined) groups.delete(pid);
  });
  const stop = async (): Promise<void> => {
    if (pid === undefined || !groups.has(pid)) return;
    endGroup(pid, 'SIGTERM');
    const timer = setTimeout(() => endGroup(pid, 'SIGKILL'), 10_000);
    await gone;
    clearTimeout(timer);
  };
  defer(t, stop);
  const found = await new Promise<RegExpMatchArray>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${command} is not ready after 30 s\n${said}`)), options.timeout ?? 30_000);
    const settle = (): void => clearTimeout(timer);
    const look = (piece: Buffer): void => {
      said = (said + piece.toString()).slice(-200_000);
      const match = ready.exec(said);
      if (!match) return;
      settle();
      resolve(match);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.once('error', (error) => {
      settle();
      reject(error);
    });
    void gone.then(() => {
      settle();
      reject(new Error(`${command} ended early\n${said}`));
    });
  });
  return { ready: found, log: () => said, stop };
}
