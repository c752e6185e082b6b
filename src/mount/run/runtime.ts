import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { LazypullError, printable } from '../../core/errors.ts';

/** A program that runs OCI bundles. */
export interface Runtime {
  readonly name: 'runc' | 'crun';
  /** Absolute. */
  readonly path: string;
  readonly version: string;
  /** It can filter system calls. */
  readonly seccomp: boolean;
}

export type WantedRuntime = 'auto' | 'runc' | 'crun' | 'none';

type Environment = Readonly<Record<string, string | undefined>>;

/** The oldest versions that do what is asked of them here. */
const OLDEST: Readonly<Record<Runtime['name'], readonly [number, number]>> = { runc: [1, 0], crun: [0, 20] };

const CGROUPS = '/sys/fs/cgroup';

/** Where system programs are, whoever's PATH it is. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];

/** PATH, and the folders of system programs behind it. */
export function searchPath(env: Environment): string {
  const own = (env['PATH'] ?? '').split(delimiter).filter(isAbsolute);
  return [...new Set([...own, ...SYSTEM_FOLDERS])].join(delimiter);
}

export function findProgram(name: string, env: Environment): string | undefined {
  for (const folder of searchPath(env).split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here
    }
  }
  return undefined;
}

/** runc before crun; undefined when neither is there, or none is wanted. One that is asked for by name has to be there. */
export async function findRuntime(wanted: WantedRuntime, env: Environment, onWarning: (text: string) => void = () => undefined, cgroups = CGROUPS): Promise<Runtime | undefined> {
  if (wanted === 'none') return undefined;
  for (const name of wanted === 'auto' ? (['runc', 'crun'] as const) : [wanted]) {
    const path = findProgram(name, env);
    if (path === undefined) {
      if (wanted === 'auto') continue;
      throw new LazypullError('UNSUPPORTED', `${name} is not installed`);
    }
    const found = name === 'crun' && hasHybridCgroups(cgroups) ? 'crun refuses control groups of both versions at once (cgroup v2 has controllers besides those of v1 here)' : parseVersion(name, path, await versionText(path));
    if (typeof found !== 'string') return found;
    if (wanted !== 'auto') throw new LazypullError('UNSUPPORTED', found, { path });
    onWarning(`${found} (${path}): not used`);
  }
  return undefined;
}

/** Whether controllers are spread over both versions of control groups. `root`: where those are mounted. */
export function hasHybridCgroups(root = CGROUPS): boolean {
  try {
    return readFileSync(join(root, 'unified/cgroup.controllers'), 'latin1').trim() !== '';
  } catch {
    return false;
  }
}

/** What `runc --version` and `crun --version` print; a reason when it cannot be used. */
export function parseVersion(name: Runtime['name'], path: string, text: string): Runtime | string {
  const [, version] = new RegExp(`^${name} version (\\S+)`, 'm').exec(text) ?? [];
  const [major, minor] = (version ?? '').split('.').map((part) => Number(/^\d+/.exec(part)?.[0] ?? Number.NaN));
  if (version === undefined || major === undefined || minor === undefined || Number.isNaN(major + minor)) return `${name} does not say its version`;
  const [leastMajor, leastMinor] = OLDEST[name];
  if (major < leastMajor || (major === leastMajor && minor < leastMinor)) return `${name} ${printable(version)} is older than ${leastMajor}.${leastMinor}`;
  return { name, path, version, seccomp: name === 'runc' ? /^libseccomp:/m.test(text) : /\+SECCOMP\b/.test(text) };
}

function versionText(path: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(path, ['--version'], { stdio: ['ignore', 'pipe', 'ignore'], timeout: 10_000 });
    let text = '';
    child.stdout.on('data', (part: Buffer) => (text += part.toString()));
    child.once('error', () => resolve(''));
    child.once('close', () => resolve(text));
  });
}

/** Why a runtime did not start a program, by its words: nothing there to run, something that cannot be run, or anything else. */
export function startFailure(log: string): 125 | 126 | 127 {
  const said = log.split('\n').filter((line) => line.includes('error')).at(-1) ?? log;
  if (!/\bexec(?:utable)?\b/i.test(said)) return 125;
  if (/not found in \$PATH|no such file or directory/i.test(said)) return 127;
  return /permission denied|operation not permitted|is a directory|format error|not a directory/i.test(said) ? 126 : 125;
}
