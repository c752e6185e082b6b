import { readFileSync, readlinkSync } from 'node:fs';
import { ERRNO } from '../native.ts';

/** A process, told apart from a later one with the same number. */
export interface ProcessMark {
  readonly pid: number;
  /** Clock ticks from the machine's start to the process'. */
  readonly started: number;
}

/** Undefined when there is no such process, or none that runs any more. */
export function markOf(pid: number): ProcessMark | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The second field is the program's name in brackets, and may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  if (state === 'Z' || state === 'X') return undefined;
  return { pid, started: Number(fields[19]) };
}

export function ownMark(): ProcessMark {
  return markOf(process.pid) ?? { pid: process.pid, started: 0 };
}

export function isAlive(mark: ProcessMark | undefined): boolean {
  return mark !== undefined && markOf(mark.pid)?.started === mark.started;
}

/** Sends a signal, unless the process is gone. */
export function signalProcess(mark: ProcessMark | undefined, signal: NodeJS.Signals): void {
  if (!mark || !isAlive(mark)) return;
  try {
    process.kill(mark.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno !== -ERRNO.ESRCH) throw error;
  }
}

/** Waits until none of the processes is there any more; false when some still are after `timeoutMs`. */
export async function awaitEnd(marks: readonly (ProcessMark | undefined)[], timeoutMs: number): Promise<boolean> {
  const until = Date.now() + timeoutMs;
  while (marks.some(isAlive)) {
    if (Date.now() >= until) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}

/** Changes with every start of the machine. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return 'unknown';
  }
}

/** The mount namespace of this process: mounts of another one cannot be seen or taken away from here. */
export function mountNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/mnt');
  } catch {
    return 'unknown';
  }
}

/** Root, and not only in a user namespace. */
export function isRealRoot(): boolean {
  if (process.geteuid?.() !== 0) return false;
  try {
    const [inside, outside, count] = readFileSync('/proc/self/uid_map', 'latin1').trim().split(/\s+/).map(Number);
    return inside === 0 && outside === 0 && count === 0xffff_ffff;
  } catch {
    return true;
  }
}

/** Whether this process may mount (CAP_SYS_ADMIN), be it in a user namespace. */
export function mayMount(): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
    return (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n;
  } catch {
    return false;
  }
}
