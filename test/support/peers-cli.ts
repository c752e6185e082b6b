import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tinyLayout } from '../../fixtures/pairs.ts';
import { run, scratch, type Ran, type RunOptions, type Scope } from './peers.ts';
import { built } from './root.ts';

/** Our own command, run as a user runs it: a process with arguments, environment, status and two outputs. The bundle, unless nothing but tsc has run. */
export const PROGRAM: string = ['program', 'bin'].map((folder) => join(built, folder, 'lazypull.js')).find(existsSync) ?? assert.fail('the program is not built');

export function runLazypull(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [PROGRAM, ...args], options);
}

/** As `runLazypull`, but a status other than 0 fails the test. */
export async function lazypull(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran = await runLazypull(args, options);
  assert.equal(ran.code, 0, `lazypull ${args.join(' ')}: status ${ran.code ?? ran.signal}\n${ran.text.slice(-2000)}\n${ran.stderr.slice(-4000)}`);
  return ran;
}

/** The result of a command run with `--json`. */
export async function lazypullJson(args: readonly string[], options: RunOptions = {}): Promise<unknown> {
  const ran = await lazypull([...args, '--json'], options);
  return JSON.parse(ran.text);
}

/** A source image for interop tests. */
export interface SourceImage {
  readonly name: string;
  /** Layout folder, a copy that may be written to. */
  readonly layout: string;
  readonly tag: string;
  /** A command that the image can run, and a part of what it prints. */
  readonly command: readonly string[];
  readonly prints: RegExp;
}

/**
 * The bundled image, and the real ones that LAZYPULL_IMAGES (an OCI layout with some of the tags debian, nginx, python, torch) offers. Real images
 * are named in the test's output, so that a run without them can be told apart.
 */
export function sourceImages(t: Scope, which: readonly string[] = ['tiny', 'nginx']): readonly SourceImage[] {
  const images: SourceImage[] = [];
  if (which.includes('tiny')) {
    const layout = join(scratch(t), 'tiny');
    cpSync(tinyLayout, layout, { recursive: true });
    images.push({ name: 'tiny', layout, tag: 'app', command: ['/usr/bin/show', '/etc/os-release'], prints: /ID=tiny/ });
  }
  const real = process.env['LAZYPULL_IMAGES'];
  const commands = new Map<string, [readonly string[], RegExp]>([
    ['debian', [['/bin/cat', '/etc/os-release'], /ID=debian/]],
    ['nginx', [['/usr/sbin/nginx', '-v'], /nginx version/]],
    ['python', [['/usr/bin/python3', '-c', 'import numpy; print("sum", numpy.ones(2).sum())'], /sum 2\.0/]],
    ['torch', [['/usr/bin/python3', '-c', 'import torch; print("sum", torch.ones(2).sum().item())'], /sum 2\.0/]],
  ]);
  for (const name of which) {
    const command = commands.get(name);
    if (!command) continue;
    if (!real || !existsSync(join(real, 'index.json'))) t.diagnostic(`no real ${name} image: LAZYPULL_IMAGES names no image layout`);
    else if (!readFileSync(join(real, 'index.json'), 'utf8').includes(`"${name}"`)) t.diagnostic(`no real ${name} image: the layout that LAZYPULL_IMAGES names has none`);
    else images.push({ name, layout: real, tag: name, command: command[0], prints: command[1] });
  }
  return images;
}
