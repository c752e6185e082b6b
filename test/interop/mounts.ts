import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { lazypull, runLazypull, type SourceImage } from '../support/peers-cli.ts';
import type { Facts, Tree } from '../support/peers-trees.ts';
import { defer, must, run, scratch, type Ran, type RunOptions, type Scope } from '../support/peers.ts';
import { built } from '../support/root.ts';

/** Mounting for real: what is started is ended, and a test that leaves anything mounted or running fails. */

export const BACKENDS = ['erofs', 'fuse'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Whether images can be mounted here; otherwise the test is skipped, visibly. */
export function canMount(t: Scope): boolean {
  if (process.geteuid?.() !== 0) {
    t.skip('needs root');
    return false;
  }
  if (!existsSync('/dev/fuse')) {
    t.skip('there is no /dev/fuse');
    return false;
  }
  return true;
}

/** A folder with a cache and a place for the state of mounts, of their own. */
export class MountScene {
  readonly folder: string;
  readonly cache: string;
  readonly env: Readonly<Record<string, string>>;
  readonly #scope: Scope;
  #mounts = 0;

  constructor(t: Scope, env: Readonly<Record<string, string>> = {}) {
    this.#scope = t;
    this.folder = scratch(t);
    this.cache = join(this.folder, 'cache');
    this.env = { LAZYPULL_RUNTIME_DIR: join(this.folder, 'run'), ...env };
    defer(t, () => this.assertNothingLeft());
  }

  async mount(image: string, flags: readonly string[] = [], options: RunOptions = {}): Promise<TestMount> {
    const dir = join(this.folder, `mount-${(this.#mounts += 1)}`);
    mkdirSync(dir);
    return this.mountAt(dir, image, flags, options);
  }

  async mountAt(dir: string, image: string, flags: readonly string[] = [], options: RunOptions = {}): Promise<TestMount> {
    const facts = JSON.parse((await lazypull(['mount', image, dir, '--cache-dir', this.cache, '--json', ...flags], { timeout: 60_000, ...options, env: { ...this.env, ...options.env } })).text) as { backend: string; why: string; digest: string; folder: string };
    const mount = new TestMount(this, dir, facts);
    defer(this.#scope, async () => {
      if (existsSync(facts.folder)) await this.run(['unmount', '--force', dir]);
    });
    return mount;
  }

  /** A mount that must fail: its status and its one line. */
  async refused(image: string, flags: readonly string[] = []): Promise<{ readonly code: number | null; readonly line: string }> {
    const dir = join(this.folder, `refused-${(this.#mounts += 1)}`);
    mkdirSync(dir);
    const ran = await this.run(['mount', image, dir, '--cache-dir', this.cache, ...flags]);
    assert.notEqual(ran.code, 0, 'it was mounted');
    const lines = ran.stderr.trim().split('\n').filter((line) => !line.includes('warning:'));
    assert.equal(lines.length, 1, ran.stderr);
    assert.equal(ran.text, '');
    await this.assertNothingLeft();
    return { code: ran.code, line: lines[0] as string };
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return runLazypull(args, { timeout: 60_000, ...options, env: { ...this.env, ...options.env } });
  }

  async json(args: readonly string[], options: RunOptions = {}): Promise<unknown> {
    const ran = await this.run([...args, '--json'], options);
    assert.equal(ran.code, 0, `${args.join(' ')}: ${ran.stderr}`);
    return JSON.parse(ran.text);
  }

  async ps(): Promise<readonly PsMount[]> {
    return ((await this.json(['ps'])) as { mounts: PsMount[] }).mounts;
  }

  /** Nothing mounted below the folder, no process of ours, no state: at once, or a moment later. */
  async assertNothingLeft(): Promise<void> {
    const left = (): readonly string[] => [...mountsBelow(this.folder), ...this.processes(), ...statesIn(this.env['LAZYPULL_RUNTIME_DIR'] as string)];
    for (let patience = 100; left().length > 0 && patience > 0; patience -= 1) await wait(50);
    assert.deepEqual(left(), [], 'left behind');
  }

  /** Processes of mounts of this scene. */
  processes(): readonly string[] {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
        const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
        return command.includes('mount-daemon') && environment.includes(`LAZYPULL_RUNTIME_DIR=${this.env['LAZYPULL_RUNTIME_DIR']}`) ? [`process ${pid}: ${command}`] : [];
      } catch {
        return [];
      }
    });
  }
}

export interface PsMount {
  readonly dir: string;
  readonly state: string;
  readonly backend: string;
  readonly restarts: number;
  readonly pids: { readonly daemon?: number; readonly supervisor?: number };
  readonly requests?: number;
  readonly fetchedBytes?: number;
  readonly localBytes?: number;
  readonly bytes?: number;
  readonly complete?: boolean;
  readonly errors?: number;
  readonly log?: string;
  readonly metrics?: string;
}

/** An image that is mounted. Whatever looks into it is a process of its own with a time limit. */
export class TestMount {
  readonly scene: MountScene;
  readonly dir: string;
  readonly backend: string;
  readonly why: string;
  readonly digest: string;
  readonly folder: string;

  constructor(scene: MountScene, dir: string, facts: { backend: string; why: string; digest: string; folder: string }) {
    this.scene = scene;
    this.dir = dir;
    this.backend = facts.backend;
    this.why = facts.why;
    this.digest = facts.digest;
    this.folder = facts.folder;
  }

  async ps(): Promise<PsMount> {
    const found = (await this.scene.ps()).find(({ dir }) => dir === this.dir);
    assert.ok(found, `${this.dir} is not listed`);
    return found;
  }

  tree(since: number): Promise<Tree> {
    return treeOf(this.dir, since);
  }

  /** Bytes of a file. */
  async cat(path: string): Promise<Buffer> {
    return (await must('cat', [join(this.dir, path)], { timeout: 60_000 })).stdout;
  }

  /** One digest over every file's name and bytes. */
  async digestOfAll(): Promise<string> {
    const ran = await must('bash', ['-c', DIGEST, 'bash', this.dir], { timeout: 120_000 });
    assert.equal(ran.stderr, '', 'a reader has failed');
    return ran.text;
  }

  async unmount(...flags: readonly string[]): Promise<void> {
    const ran = await this.scene.run(['unmount', ...flags, this.dir]);
    assert.equal(ran.code, 0, ran.stderr);
  }

  log(): readonly Readonly<Record<string, unknown>>[] {
    return readFileSync(join(this.folder, 'log'), 'utf8').split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

export const DIGEST = 'set -o pipefail; cd "$1" && find . -xdev -type f -print0 | sort -z | xargs -0 -r sha256sum | sha256sum';

export async function treeOf(folder: string, since: number): Promise<Tree> {
  const ran = await must(process.execPath, [join(built, 'test', 'interop', 'tree-reader.js'), folder, `${since}`], { timeout: 120_000 });
  return new Map(JSON.parse(ran.text) as [string, Facts][]);
}

/** Converts an image into a layout or a registry. Returns the reference that can be mounted. */
export async function makeLazy(image: SourceImage, format: string, flags: readonly string[], target: string): Promise<string> {
  const plain = target.startsWith('docker://') ? ['--plain-http'] : [];
  await lazypull(['convert', `oci:${image.layout}:${image.tag}`, target, '--format', format, '--platform', 'linux/amd64', ...flags, ...plain], { timeout: 300_000 });
  return target;
}

function mountsBelow(folder: string): readonly string[] {
  return readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.split(' ')[1]?.startsWith(`${folder}/`));
}

function statesIn(folder: string): readonly string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => name !== 'lock').map((name) => `state ${name}`) : [];
}

/** Drops what the kernel has cached, so that reads come to us. */
export async function dropCaches(): Promise<void> {
  await run('bash', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
}
