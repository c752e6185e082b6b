import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What a command cost. */
export interface Cost {
  /** Seconds. */
  readonly wall: number;
  /** Seconds of user and system time, of the command and of the daemon that works for it. */
  readonly cpu: number;
  /** Peak resident memory in MB (1e6 bytes) of the command itself. */
  readonly rss: number;
}

/** Ticks per second in /proc; the value of every Linux that Node runs on. */
const TICKS = 100;

/** CPU seconds that a running process has used so far, children that it waited for included. */
export function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The second field is the name in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) / TICKS;
}

/**
 * Runs a command to its end under GNU time, which reports what the kernel accounted. `daemon` is a process that does part of the work:
 * the CPU time it uses meanwhile counts too.
 */
export async function measure(command: string, args: readonly string[], daemon?: number): Promise<Cost> {
  const before = daemon === undefined ? 0 : cpuOf(daemon);
  const child = spawn('/usr/bin/time', ['-f', '%e %U %S %M', command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-20_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with status ${code}: ${stderr.slice(-2000)}`);
  const [wall, user, system, rss] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number) as [number, number, number, number];
  const extra = daemon === undefined ? 0 : cpuOf(daemon) - before;
  return { wall, cpu: Math.round((user + system + extra) * 100) / 100, rss: Math.round((rss * 1024) / 1e6) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** The median of each figure. */
export function medianCost(costs: readonly Cost[]): Cost {
  return { wall: median(costs.map(({ wall }) => wall)), cpu: median(costs.map(({ cpu }) => cpu)), rss: Math.max(...costs.map(({ rss }) => rss)) };
}
