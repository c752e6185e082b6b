import assert from 'node:assert/strict';
import { chmod, link, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { decodeName } from '../../src/core/bytes.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { DirectoryNode } from '../../src/core/types.ts';
import { extractImage, type ExtractProgress } from '../../src/image/extract.ts';
import { planExtract } from '../../src/image/extract-plan.ts';
import { openImage } from '../../src/image/open.ts';
import { impliedDirectory } from '../../src/layer/tree.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { lazyImage } from './extract-image.ts';
import { lazyLayer, putImage, testFormat, type Entry } from './fixture.ts';

const ROOT = process.getuid?.() === 0;
const fails = (code: ErrorCode, pattern = /./) => (error: unknown): boolean =>
  error instanceof LazypullError && error.code === code && pattern.test(error.message);

const base: Entry[] = [
  { path: './', mode: 0o751 }, { path: 'etc/', mtime: { seconds: 1_600_000_000, nanoseconds: 0 } }, { path: 'etc/passwd', content: 'root\n', mode: 0o640, uid: 12, gid: 34 },
  { path: 'etc/gone', content: 'x' }, { path: 'bin', type: 'symlink', linkName: 'usr/bin', mode: 0o777 },
  { path: 'usr/', mode: 0o555 }, { path: 'usr/bin/' }, { path: 'usr/bin/su', content: 'su', mode: 0o4755 }, { path: 'usr/bin/busy', content: 'busy', mode: 0o755 },
  { path: 'usr/bin/ls', type: 'hardlink', linkName: 'usr/bin/busy' }, { path: 'usr/bin/vi', type: 'symlink', linkName: '/etc/alternatives/vi' },
  { path: 'etc/alternatives/' }, { path: 'etc/alternatives/vi', type: 'symlink', linkName: '../../usr/bin/vim' }, { path: 'usr/bin/vim', content: 'vim' },
  { path: 'empty', content: '' }, { path: 'tmp/', mode: 0o1777 }, { path: 'dev/' }, { path: 'dev/null', type: 'char', major: 1, minor: 3, mode: 0o666 }, { path: 'dev/pipe', type: 'fifo', mode: 0o600 },
  { path: 'cap', content: 'c', xattrs: new Map([['security.capability', Uint8Array.of(1, 2)]]) },
];
const upper: Entry[] = [{ path: 'etc/.wh.gone', content: '' }, { path: 'etc/motd', content: 'hello', mtime: { seconds: 1_700_000_000, nanoseconds: 0 } }, { path: 'dangling', type: 'symlink', linkName: '/nowhere' }];

async function temp(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lazypull-extract-'));
  t.after(async () => {
    await chmod(join(folder, 'out', 'usr'), 0o700).catch(() => undefined);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Every name below a directory, symlinks not followed. */
async function names(directory: string, above = ''): Promise<string[]> {
  const below = await Promise.all((await readdir(directory, { withFileTypes: true })).map(async (entry) => {
    const name = `${above}${entry.name}`;
    return entry.isDirectory() ? [name, ...(await names(join(directory, entry.name), `${name}/`))] : [name];
  }));
  return below.flat().sort();
}

const modeOf = async (path: string): Promise<number> => (await lstat(path)).mode % 0o10000;

describe('extractImage into a directory', () => {
  it('makes the merged tree with modes, times, symlinks and hard links', async (t) => {
    const out = join(await temp(t), 'out');
    const image = await lazyImage([base, upper]);
    const report = await extractImage(image, { directory: out }, { sameOwner: false });
    assert.deepEqual(await names(out), [
      'bin', 'cap', 'dangling', 'dev', 'empty', 'etc', 'etc/alternatives', 'etc/alternatives/vi', 'etc/motd', 'etc/passwd', 'tmp', 'usr', 'usr/bin',
      'usr/bin/busy', 'usr/bin/ls', 'usr/bin/su', 'usr/bin/vi', 'usr/bin/vim',
    ]);
    assert.equal(await readFile(join(out, 'etc/passwd'), 'utf8'), 'root\n');
    assert.equal((await lstat(join(out, 'empty'))).size, 0);
    assert.deepEqual(await Promise.all(['', 'etc/passwd', 'usr', 'tmp', 'usr/bin/su'].map((path) => modeOf(join(out, path)))), [0o751, 0o640, 0o555, 0o1777, 0o755]);
    assert.equal((await lstat(join(out, 'etc'))).mtimeMs, 1_600_000_000_000, 'set after its children were made');
    assert.equal((await lstat(join(out, 'etc/motd'))).mtimeMs, 1_700_000_000_000);
    assert.equal((await lstat(join(out, 'bin'))).mtimeMs, 1_700_000_000_000, 'of the symlink itself');
    assert.deepEqual([await readlink(join(out, 'bin')), await readlink(join(out, 'dangling'))], ['usr/bin', '/nowhere']);
    assert.equal((await lstat(join(out, 'usr/bin/ls'))).ino, (await lstat(join(out, 'usr/bin/busy'))).ino);
    const { read, digest, warnings, ...counts } = report;
    assert.deepEqual(counts, { paths: ['/'], directories: 7, files: 7, hardLinks: 1, symlinks: 4, specials: 0, bytes: 20, skipped: 2 });
    assert.equal(digest, image.descriptor.digest);
    assert.ok(read.requests > 0);
    assert.deepEqual(warnings.map((warning) => warning.replace(/,.*| \(.*/, '')), ['left out 1 device and 1 FIFO', '1 entry lost extended attributes', '1 entry lost the set-user-ID or set-group-ID bit']);
  });

  it('gives files to their owners as root', { skip: ROOT ? false : 'needs root' }, async (t) => {
    const out = join(await temp(t), 'out');
    const { warnings } = await extractImage(await lazyImage([base]), { directory: out });
    const { uid, gid } = await lstat(join(out, 'etc/passwd'));
    assert.deepEqual([uid, gid], [12, 34]);
    assert.equal(await modeOf(join(out, 'usr/bin/su')), 0o4755);
    assert.ok(!warnings.some((warning) => warning.includes('set-user-ID')));
  });

  it('selects paths, with their parents and what symlinks lead to', async (t) => {
    const out = join(await temp(t), 'out');
    const image = await lazyImage([base, upper]);
    const report = await extractImage(image, { directory: out }, { paths: ['/bin/vi', '/etc/passwd', '/etc/../etc/passwd', '/dangling'], sameOwner: false });
    assert.deepEqual(await names(out), ['dangling', 'etc', 'etc/alternatives', 'etc/alternatives/vi', 'etc/passwd', 'usr', 'usr/bin', 'usr/bin/vi', 'usr/bin/vim']);
    assert.equal(await modeOf(join(out, 'usr')), 0o555, 'parents are the real ones');
    assert.deepEqual(report.paths, ['/usr/bin/vi', '/etc/alternatives/vi', '/usr/bin/vim', '/etc/passwd', '/dangling']);
    assert.equal(await readFile(join(out, 'usr/bin/vim'), 'utf8'), 'vim');
    const other = join(await temp(t), 'out');
    assert.deepEqual((await extractImage(image, { directory: other }, { paths: ['etc/motd', '/etc'] })).paths, ['/etc'], 'the larger one');
    await assert.rejects(extractImage(image, { directory: other }, { paths: ['/etc/gone'] }), fails('NOT_FOUND', /etc\/gone/));
  });

  it('keeps names that are not UTF-8', async (t) => {
    const out = join(await temp(t), 'out');
    const raw = (text: string): Buffer => Buffer.from(text, 'latin1');
    const entries: Entry[] = [{ path: decodeName(raw('d\xe9/')) }, { path: decodeName(raw('d\xe9/caf\xe9')), content: 'x' }, { path: 'link', type: 'symlink', linkName: decodeName(raw('d\xe9/caf\xe9')) }];
    const store = openMemory();
    await putImage(store, { layers: [lazyLayer(entries)] }, 'app');
    await extractImage(await openImage({ store, reference: 'app' }, [testFormat]), { directory: out });
    assert.deepEqual(await readlink(join(out, 'link'), 'buffer'), raw('d\xe9/caf\xe9'));
    assert.equal(await readFile(Buffer.concat([Buffer.from(`${out}/`), raw('d\xe9/caf\xe9')]), 'utf8'), 'x');
  });

  it('refuses what is there before anything is changed, and replaces it on demand', async (t) => {
    const folder = await temp(t);
    const out = join(folder, 'out');
    const image = await lazyImage([base, upper]);
    await mkdir(join(out, 'etc'), { recursive: true });
    await writeFile(join(folder, 'elsewhere'), 'mine');
    await link(join(folder, 'elsewhere'), join(out, 'etc/motd'));
    await assert.rejects(extractImage(image, { directory: out }), fails('USAGE', /would replace a file that is there already, which needs overwrite \(etc\/motd\)/));
    assert.deepEqual(await names(out), ['etc', 'etc/motd']);
    await extractImage(image, { directory: out }, { paths: ['/etc/passwd'], sameOwner: false });
    assert.notEqual((await lstat(join(out, 'etc'))).mtimeMs, 1_600_000_000_000, 'a directory that was there keeps its attributes');
    await extractImage(image, { directory: out }, { overwrite: true, sameOwner: false });
    await extractImage(image, { directory: out }, { overwrite: true, sameOwner: false });
    assert.equal(await readFile(join(out, 'etc/motd'), 'utf8'), 'hello');
    assert.equal(await readFile(join(folder, 'elsewhere'), 'utf8'), 'mine', 'replaced, not written to');
    assert.equal((await lstat(join(out, 'etc'))).mtimeMs, 1_600_000_000_000);
    assert.equal((await lstat(join(out, 'usr/bin/ls'))).nlink, 2);
    await rm(join(out, 'dangling'));
    await mkdir(join(out, 'dangling'));
    await assert.rejects(extractImage(image, { directory: out }, { overwrite: true }), fails('USAGE', /never done \(dangling\)/));
  });

  it('never writes through a symlink that lies in the directory', async (t) => {
    const folder = await temp(t);
    const out = join(folder, 'out');
    const victim = join(folder, 'victim');
    await mkdir(out);
    await mkdir(victim);
    await writeFile(join(victim, 'passwd'), 'safe');
    await symlink(victim, join(out, 'etc'));
    const image = await lazyImage([base]);
    await assert.rejects(extractImage(image, { directory: out }), fails('USAGE', /would replace a symlink by a directory.*\(etc\)/));
    await extractImage(image, { directory: out }, { overwrite: true, sameOwner: false });
    assert.ok((await lstat(join(out, 'etc'))).isDirectory());
    assert.deepEqual([await readdir(victim), await readFile(join(victim, 'passwd'), 'utf8')], [['passwd'], 'safe']);
    await rm(join(out, 'etc/passwd'));
    await symlink(join(victim, 'passwd'), join(out, 'etc/passwd'));
    await extractImage(image, { directory: out }, { paths: ['/etc/passwd'], overwrite: true, sameOwner: false });
    assert.equal(await readFile(join(victim, 'passwd'), 'utf8'), 'safe');
    assert.ok((await lstat(join(out, 'etc/passwd'))).isFile());
  });

  it('does not let a symlink of the image lead its own files astray', async (t) => {
    const folder = await temp(t);
    const out = join(folder, 'out');
    const victim = join(folder, 'victim');
    await mkdir(victim);
    // Later entries win: what was a symlink is a directory when files are put into it.
    const layer: Entry[] = [{ path: 'd', type: 'symlink', linkName: victim }, { path: 'd/evil', content: 'evil' }, { path: 'l', type: 'symlink', linkName: '../victim/evil' }, { path: 'l2', type: 'hardlink', linkName: 'l' }];
    await extractImage(await lazyImage([layer]), { directory: out });
    assert.deepEqual(await readdir(victim), []);
    assert.equal(await readFile(join(out, 'd/evil'), 'utf8'), 'evil');
    assert.deepEqual([await readlink(join(out, 'l')), await readlink(join(out, 'l2'))], ['../victim/evil', '../victim/evil']);
  });

  it('ends at the first broken file and leaves no half of it', async (t) => {
    const out = join(await temp(t), 'out');
    const image = await lazyImage([[{ path: 'a', content: 'a' }, { path: 'b', content: 'b'.repeat(300) }, { path: 'c', content: 'c' }]]);
    const b = (await image.tree()).children.get('b');
    assert.ok(b?.type === 'file');
    // As if the index spoke of other bytes.
    for (const extent of b.extents) (extent.chunk as { digest: string }).digest = `sha256:${'0'.repeat(64)}`;
    const events: ExtractProgress[] = [];
    await assert.rejects(extractImage(image, { directory: out }, { progress: (event) => void events.push(event) }), fails('DIGEST_MISMATCH', /\(b at offset/));
    assert.ok((await names(out)).every((name) => name === 'a' || name === 'c'), String(await names(out)));
    assert.deepEqual(events[0], { type: 'total', files: 3, bytes: 302 });
  });

  it('refuses more than it may write, and is cancelled by its signal', async (t) => {
    const out = join(await temp(t), 'out');
    const image = await lazyImage([base]);
    await assert.rejects(extractImage(image, { directory: out }, { maxBytes: 15 }), fails('LIMIT', /16 bytes/));
    await assert.rejects(extractImage(image, { directory: out }, { signal: AbortSignal.abort() }), fails('CANCELLED'));
    await assert.rejects(lstat(out), { code: 'ENOENT' });
    await writeFile(out, '');
    await assert.rejects(extractImage(image, { directory: out }), fails('IO', /cannot make the directory/));
  });
});

describe('what extracting fetches', () => {
  const noise = (seed: number, size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (Math.imul(i + seed * 7919, 2654435761) >>> 13) % 256);
  const many = Array.from({ length: 400 }, (_, i): Entry => ({ path: `d/${(i * 7) % 400}`, content: noise(i, 1000) }));

  it('fetches neighbours together and nothing twice', async (t) => {
    const folder = await temp(t);
    const image = await lazyImage([many, [{ path: 'big', content: noise(1, 20_000_000) }, { path: 'tail', content: 'tail' }]], { chunkSize: 1 << 20 });
    await image.tree();
    const before = image.stats();
    const { read } = await extractImage(image, { directory: join(folder, 'out') });
    const stored = image.layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
    assert.ok(read.requests - before.requests <= 12, `${read.requests - before.requests} requests`);
    assert.ok(read.bytes - before.bytes <= stored, `${read.bytes - before.bytes} of ${stored} bytes`);
    assert.ok(Buffer.from(noise(1, 20_000_000)).equals(await readFile(join(folder, 'out', 'big'))));
    for (const { path, content } of many) assert.ok(Buffer.from(content as Uint8Array).equals(await readFile(join(folder, 'out', path))), path);
  });

  it('fetches only what is selected', async (t) => {
    const image = await lazyImage([many]);
    await image.tree();
    const before = image.stats();
    const { read } = await extractImage(image, { directory: join(await temp(t), 'out') }, { paths: ['/d/5'] });
    assert.equal(read.requests - before.requests, 1);
    assert.ok(read.bytes - before.bytes < 2000);
  });
});

describe('planExtract', () => {
  it('does not trust names that leave their directory, wherever they come from', () => {
    const file = { type: 'file', mode: 0, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map(), size: 0, extents: [] } as const;
    for (const name of ['..', '.', '', '../x', 'a/b', '/x', 'x\0', 'x/']) {
      const tree: DirectoryNode = { ...impliedDirectory(), children: new Map([[name, file]]) };
      assert.throws(() => planExtract(tree, ['/']), fails('CORRUPT'), JSON.stringify(name));
    }
  });

  it('ends a circle of symlinks', () => {
    const to = (target: string) => ({ type: 'symlink', target, mode: 0, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map() }) as const;
    const tree: DirectoryNode = { ...impliedDirectory(), children: new Map([['a', to('b')], ['b', to('/a')]]) };
    assert.deepEqual(planExtract(tree, ['a']).roots, ['a', 'b']);
  });
});
