import assert from 'node:assert/strict';
import { spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { RunOptions as ContainerOptions } from '../../src/mount/run/run-image.ts';
import { findTool, run, scratch, type Ran, type RunOptions, type Scope } from '../support/peers.ts';
import { built } from '../support/root.ts';

/** Programs of this machine that the containers of these tests are made of. */
const PROGRAMS = ['sh', 'cat', 'dd', 'env', 'grep', 'head', 'hostname', 'id', 'ls', 'mkdir', 'mknod', 'mv', 'rm', 'sleep', 'stat', 'stty', 'touch', 'yes'];

/** A folder that is an image's tree, with its config beside it, for `run-driver`. */
export interface HostTree {
  readonly path: string;
  /** Replaces the image's config (what is in `config`). */
  configure(config: object, more?: object): void;
}

/** A root file system of this machine's own programs: needs no image. No /proc, /sys and /dev in it. */
export function hostTree(t: Scope): HostTree {
  const path = join(scratch(t), 'tree');
  for (const folder of ['bin', 'etc', 'tmp', 'root', 'srv/data']) mkdirSync(join(path, folder), { recursive: true });
  chmodSync(path, 0o755);
  chmodSync(join(path, 'tmp'), 0o1777);
  for (const name of PROGRAMS) {
    const program = findTool(name);
    assert.ok(program, `${name} is not installed`);
    copyFileSync(realpathSync(program), join(path, 'bin', name));
    for (const [, library = ''] of spawnSync('ldd', [program], { encoding: 'utf8' }).stdout.matchAll(/(?:=> |^\t)(\/\S+) \(/gm)) {
      const at = join(path, library);
      if (existsSync(at)) continue;
      mkdirSync(dirname(at), { recursive: true });
      copyFileSync(library, at);
    }
  }
  writeFileSync(join(path, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n');
  writeFileSync(join(path, 'etc/group'), 'root:x:0:\napp:x:1001:\nmore:x:1002:app\n');
  writeFileSync(join(path, 'srv/data/old'), 'of the image\n');
  symlinkSync('srv/data', join(path, 'data'));
  const configure = (config: object, more: object = {}): void =>
    writeFileSync(`${path}.json`, JSON.stringify({ os: 'linux', config: { Env: ['PATH=/bin', 'FROM=image'], ...config }, rootfs: { type: 'layers', diff_ids: [] }, ...more }));
  configure({ Cmd: ['sh', '-c', 'echo default'] });
  return { path, configure };
}

/** Why tests leave crun out where `hasHybridCgroups`. */
export const CRUN_REFUSES = 'crun refuses control groups of both versions at once, as they are here';

export type Wishes = Partial<Omit<ContainerOptions, 'mount' | 'unmountAbandoned' | 'signal' | 'takeSignals'>>;

export interface Container {
  readonly tree: HostTree;
  /** Where runs have their files. */
  readonly folder: string;
  /** `lazypull run` with the tree in place of a mounted image. */
  run(wishes: Wishes, options?: RunOptions): Promise<Ran>;
  /** A command of sh; its output, after an exit status of 0. */
  sh(command: string, wishes?: Wishes): Promise<string>;
  /** Fails when anything of any run is still there: folders, mounts, processes, control groups. */
  nothingLeft(): Promise<void>;
}

/** `before` is put in front of the command: what makes namespaces, or another user. */
export function containers(t: Scope, runtime: NonNullable<Wishes['runtime']>, before: readonly string[] = []): Container {
  const tree = hostTree(t);
  const folder = scratch(t);
  const groups = controlGroups();
  const go = (wishes: Wishes, options: RunOptions = {}): Promise<Ran> => {
    const [command = '', ...args] = [...before, process.execPath, join(built, 'test', 'mount', 'run-driver.js'), tree.path, JSON.stringify({ runtime, ...wishes })];
    return run(command, args, { timeout: 60_000, ...options, env: { TMPDIR: folder, HERE: 'from here', LAZYPULL_NO_NATIVE: undefined, ...options.env } });
  };
  return {
    tree,
    folder,
    run: go,
    async sh(command, wishes = {}) {
      const ran = await go({ command: ['sh', '-c', command], ...wishes });
      assert.equal(ran.code, 0, `${command}: status ${ran.code ?? ran.signal}\n${ran.text}\n${ran.stderr}`);
      return ran.text;
    },
    async nothingLeft() {
      await eventually(() => [...leftovers(folder), ...controlGroups().filter((group) => !groups.includes(group))]);
    },
  };
}

/** Waits for a list of what is left to become empty; fails with it otherwise. */
export async function eventually(look: () => readonly string[], ms = 8000): Promise<void> {
  const until = Date.now() + ms;
  while (look().length > 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(look(), [], 'something is left');
}

/** Folders of runs, mounts below a folder, and processes that see such mounts or name the folder. */
export function leftovers(folder: string): readonly string[] {
  const found = readdirSync(folder).filter((name) => name.includes('lazypull-run')).map((name) => `folder ${name}`);
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) if (line.includes(`${folder}/`)) found.push(`mount ${line}`);
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const words = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
    if (words.includes(`${folder}/`) || /lazypull-run-[0-9a-f]{12}\//.test(read(`/proc/${pid}/mountinfo`).split('\n').filter((line) => line.includes(folder)).join('\n'))) found.push(`process ${pid} ${words}`);
  }
  return found;
}

/** Control groups with names as runs give them to containers. */
function controlGroups(): readonly string[] {
  const found: string[] = [];
  const visit = (folder: string, depth: number): void => {
    for (const entry of names(folder)) {
      const path = join(folder, entry);
      if (/^[0-9a-f]{12}$/.test(entry)) found.push(path);
      if (depth < 4) visit(path, depth + 1);
    }
  };
  visit('/sys/fs/cgroup', 0);
  return found;
}

function names(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Resolves when a started process has printed the text. */
export function printed(child: ChildProcess, text: string): Promise<void> {
  let said = '';
  return new Promise((resolve, reject) => {
    child.stdout?.on('data', (piece: Buffer) => {
      said += piece.toString();
      if (said.includes(text)) resolve();
    });
    child.once('exit', () => reject(new Error(`ended before it said ${text}: ${said}`)));
  });
}
