import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { lstat, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ExtractReport, InspectReport } from '../../src/index.ts';
import { readTar } from '../support/tar-read.ts';
import { run } from './harness.ts';
import { tempFolder, tinyLayout } from './tiny.ts';

describe('extract', () => {
  const cleanups: (() => unknown)[] = [];
  const context = { after: (work: () => unknown) => void cleanups.push(work) } as Parameters<typeof tempFolder>[0];
  let image: string;

  before(async () => {
    const layout = await tinyLayout(context);
    image = `oci:${layout}:esgz`;
    const { code, stderr } = await run(['convert', `oci:${layout}:app`, image, '--platform', 'linux/amd64']);
    assert.equal(code, 0, stderr);
  });
  after(async () => {
    for (const work of cleanups) await work();
  });
  const extract = (...argv: string[]): ReturnType<typeof run> => run(['extract', image, '--platform', 'linux/amd64', ...argv]);

  it('writes files and directories below a directory and says what it wrote', async (t) => {
    const out = join(await tempFolder(t), 'new', 'out');
    const { code, stdout, stderr } = await extract('/etc/hostname', '/opt/app', '-o', out, '--no-same-owner', '--stats');
    assert.deepEqual([code, stdout], [0, ''], stderr);
    assert.equal(await readFile(join(out, 'etc/hostname'), 'utf8'), 'tiny\n');
    assert.deepEqual((await readdir(join(out, 'opt/app/bin'))).sort(), ['restart', 'start']);
    assert.match(stderr, /^extracted \d+ files? \(\d+ B\), \d+ directories.* to .*out\nfetched \d.* in \d+ requests\n$/);
  });

  it('takes all of it by default, and warns of what a directory cannot have', async (t) => {
    const out = join(await tempFolder(t), 'out');
    const { code, stdout, stderr } = await extract('-o', out, '--no-same-owner', '--json');
    assert.equal(code, 0, stderr);
    const report = JSON.parse(stdout) as ExtractReport;
    assert.deepEqual(report.paths, ['/']);
    assert.equal(report.skipped > 0, true);
    assert.match(stderr, /^lazypull: warning: left out \d+ devices/m);
    assert.match(stderr, /^lazypull: warning: \d+ entr(?:y|ies) lost extended attributes \(.*security\.capability/m);
    const listed = (await run(['ls', '-R', image, '--platform', 'linux/amd64'])).stdout.trimEnd().split('\n');
    assert.equal(report.directories + report.files + report.hardLinks + report.symlinks + report.skipped, listed.length + 1, 'and the root');
    assert.equal((await lstat(join(out, 'bin'))).isSymbolicLink(), true);
  });

  it('writes a tar to a file and to standard output', async (t) => {
    const file = join(await tempFolder(t), 'out.tar');
    const piped = await extract('/etc', '--tar', '-');
    assert.equal(piped.code, 0);
    const { code, stdout, stderr } = await extract('/etc', '--tar', file);
    assert.deepEqual([code, stdout], [0, '']);
    assert.match(stderr, /^extracted .* to .*out\.tar\n$/);
    assert.ok((await readFile(file)).equals(piped.stdoutBytes));
    const names = (await readTar(piped.stdoutBytes)).entries.map(({ entry }) => entry.path);
    assert.ok(names.includes('etc/') && names.includes('etc/hostname') && !names.some((name) => name.startsWith('usr')), names.join());
  });

  it('replaces nothing unless told to, and leaves no half tar', async (t) => {
    const folder = await tempFolder(t);
    const file = join(folder, 'out.tar');
    await writeFile(file, 'mine');
    const refused = await extract('--tar', file);
    assert.deepEqual([refused.code, refused.stderr.includes('--overwrite replaces it')], [2, true]);
    assert.equal((await extract('/nowhere', '--tar', file, '--overwrite')).code, 3);
    assert.equal((await extract('--tar', file, '--overwrite', '--max-size', '1K')).code, 8);
    assert.deepEqual([await readFile(file, 'utf8'), await readdir(folder)], ['mine', ['out.tar']]);
    assert.equal((await extract('/etc', '--tar', file, '--overwrite')).code, 0);
    assert.notEqual(await readFile(file, 'utf8'), 'mine');
    assert.equal((await extract('/etc/hostname', '-o', folder)).code, 0);
    assert.equal((await extract('/etc/hostname', '-o', folder)).code, 2);
    assert.equal((await extract('/etc/hostname', '-o', folder, '--overwrite')).code, 0);
    assert.equal((await extract('/etc', '--tar', join(folder, 'no', 'such', 'folder'))).code, 9);
  });

  it('writes to a pipe or a device of that name, and leaves it what it is', async (t) => {
    const pipe = join(await tempFolder(t), 'pipe');
    execFileSync('mkfifo', [pipe]);
    // Opened for both, nobody has to wait for the other side.
    const reader = await open(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    t.after(() => reader.close());
    const piped = await extract('/etc/hostname', '--tar', '-');
    const { code, stderr } = await extract('/etc/hostname', '--tar', pipe);
    assert.equal(code, 0, stderr);
    assert.ok((await lstat(pipe)).isFIFO());
    const bytes = Buffer.alloc(piped.stdoutBytes.length);
    for (let at = 0; at < bytes.length; ) at += (await reader.read(bytes, at)).bytesRead;
    assert.ok(bytes.equals(piped.stdoutBytes));
  });

  it('says that files stay when one of them is broken', async (t) => {
    const layout = await tinyLayout(t);
    const broken = `oci:${layout}:esgz`;
    const flags = ['--platform', 'linux/amd64', '--json'];
    assert.equal((await run(['convert', `oci:${layout}:app`, broken])).code, 0);
    const { images } = JSON.parse((await run(['inspect', broken, ...flags])).stdout) as InspectReport;
    const blob = join(layout, 'blobs', ...String(images[0]?.layers[1]?.digest).split(':'));
    const bytes = await readFile(blob);
    bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] as number) + 1;
    await rm(blob);
    await writeFile(blob, bytes);
    const out = join(await tempFolder(t), 'out');
    const { code, stdout, stderr } = await run(['extract', broken, ...flags, '-o', out, '--no-same-owner']);
    assert.deepEqual([code, stdout], [6, '']);
    const [, count] = /^lazypull: warning: (\d+) files that were extracted before it failed are in .*out\nlazypull: [^\n]+\n$/.exec(stderr) ?? [];
    const files = (await readdir(out, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    assert.ok(Number(count) > 0 && files.length >= Number(count), stderr);
    assert.ok(files.every(({ name }) => !name.startsWith('.lazypull')));
  });

  it('does not show a tar on a terminal', async () => {
    const { code, stderr } = await run(['extract', image, '--tar', '-'], { terminal: 'stdout' });
    assert.equal(code, 2);
    assert.match(stderr, /a terminal cannot show a tar/);
  });

  it('shows progress on a terminal', async (t) => {
    const { code, stderr } = await run(['extract', image, '--platform', 'linux/amd64', '-o', join(await tempFolder(t), 'out'), '--no-same-owner'], { terminal: 'stderr' });
    assert.equal(code, 0);
    assert.match(stderr, /extracting/);
  });
});
