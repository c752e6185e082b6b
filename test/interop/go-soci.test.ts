import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { soci } from '../../formats/soci/index.ts';
import type { SociOptions } from '../../formats/soci/layout.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { mixture } from '../codec/samples.ts';
import { gzipLayouts } from '../support/gzip-layouts.ts';
import { sourceImages } from '../support/peers-cli.ts';
import { findTool, must } from '../support/peers.ts';
import { makeZtoc, type MadeZtoc } from '../support/soci.ts';
import { archive, entries } from '../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, tarCases } from '../support/tar-corpus.ts';
import { openGoSoci, type GoSoci } from './go-soci.ts';
import { layoutManifest } from './steps.ts';

/** A tar of files of all sizes and kinds of content, with links. */
function anyTar(size: number): Uint8Array {
  const content = mixture(size);
  const files = [directory('./'), directory('./d/')];
  for (let at = 0, i = 0; i === 0 || at < size; i++) {
    const length = (i * 7919) % 40_000;
    files.push(file(`./d/${i}`, content.subarray(at, at + length), { xattrs: new Map(i % 5 === 0 ? [['user.n', Uint8Array.of(i, 255)]] : []) }));
    at += length;
  }
  return archive(entries(...files, symlink('./l', 'd/1'), hardlink('./h', './d/0')));
}

/** What a layer's two zTOCs are: `ours`, when the official one is missing or unreadable, and `none`, when nobody can make one that is readable. */
type Verdict = 'identical' | 'ours' | 'none';

/** Builds a layer's zTOC both ways. They differ only where soci-snapshotter cannot read its own; ours is then read by it, or there is none. */
async function compare(go: GoSoci, packed: Uint8Array, tar: Uint8Array, options: SociOptions & { spanSize: number }, what: string): Promise<Verdict> {
  const official = await go.build(packed, options.spanSize);
  const ours = await makeZtoc(soci, packed, tar, { upstreamCheckpoints: true, ...options });
  if (official.bytes && ours.skipped === undefined && Buffer.from(official.bytes).equals(ours.bytes)) return 'identical';
  if (official.bytes) {
    const told = await go.check(official.bytes, packed);
    assert.notEqual(told.error, undefined, `${what}: the official zTOC is readable, and ours ${ours.skipped === undefined ? 'differs' : `is none: ${ours.skipped}`}`);
  }
  if (ours.skipped !== undefined) return 'none';
  await assertReadable(go, packed, ours, what);
  return 'ours';
}

async function assertReadable(go: GoSoci, packed: Uint8Array, ours: MadeZtoc, what: string): Promise<void> {
  assert.equal(ours.skipped, undefined, what);
  const told = await go.check(ours.bytes, packed);
  assert.equal(told.error, undefined, `${what}: ${told.error}`);
  assert.equal(told.records, ours.ztoc.records.length, what);
}

test("soci-snapshotter's own packages make the zTOCs that we make, and read them", async (t) => {
  const go = await openGoSoci(t);
  if (typeof go === 'string') return t.skip(go);
  await t.test('any gzip: the same bytes', (s) => anyGzip(s, go));
  await t.test('gzip of several members, each start a checkpoint', () => severalMembers(go));
  await t.test('plain tars of all sizes', () => plainTars(go));
  await t.test('every archive of the corpus, as tar and as gzip', (s) => corpus(s, go));
  await t.test('files of this machine by all compressors, and a real image', (s) => realLayers(s, go));
});

async function anyGzip(t: TestContext, go: GoSoci): Promise<void> {
  const tar = anyTar(300_000);
  const tally = new Map<Verdict, number>();
  let i = 0;
  for (const layout of gzipLayouts(tar, { count: 200 })) {
    const spanSize = [1, 1000, 10_000, 65_536, 4 << 20][i++ % 5] as number;
    const verdict = await compare(go, layout.packed, layout.tar, { spanSize }, `${layout.name}, spans of ${spanSize}`);
    tally.set(verdict, (tally.get(verdict) ?? 0) + 1);
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(tally)));
  // Longer than the inflater's window for input, so that blocks begin wherever one is moved on.
  const long = anyTar(2_500_000);
  for (const layout of gzipLayouts(long, { count: 20, seed: 3 })) await compare(go, layout.packed, layout.tar, { spanSize: 30_000 }, layout.name);
  assert.ok((tally.get('identical') ?? 0) >= 100 && (tally.get('ours') ?? 0) >= 30 && !tally.has('none'), JSON.stringify([...tally]));
}

async function severalMembers(go: GoSoci): Promise<void> {
  const tar = anyTar(300_000);
  for (const layout of gzipLayouts(tar, { count: 120, seed: 2 })) {
    if (layout.members === 1) continue;
    await assertReadable(go, layout.packed, await makeZtoc(soci, layout.packed, layout.tar, { spanSize: 65_536 }), layout.name);
  }
}

async function plainTars(go: GoSoci): Promise<void> {
  for (const size of [0, 1, 100, 3000, 70_000, 300_000]) {
    const tar = anyTar(size);
    for (const spanSize of [512, 1000, 4096, 65_536, tar.length - 1, tar.length, tar.length + 1, 4 << 20]) {
      for (const whole of [tar, Buffer.concat([tar, new Uint8Array(10_240)])]) {
        await compare(go, whole, whole, { spanSize }, `tar of ${whole.length}, spans of ${spanSize}`);
      }
    }
  }
}

async function corpus(t: TestContext, go: GoSoci): Promise<void> {
  const tally: Record<Verdict | 'refused', string[]> = { identical: [], ours: [], none: [], refused: [] };
  for (const { name, bytes, expected } of tarCases()) {
    for (const packed of [bytes, gzipSync(bytes)]) {
      const what = `${name}, ${packed === bytes ? 'tar' : 'gzip'}`;
      const verdict = await compare(go, packed, bytes, { spanSize: 65_536 }, what).catch((error: unknown) => {
        // What our reader of archives refuses is refused here, too.
        if (expected !== 'ok' && error instanceof LazypullError && error.code === expected) return 'refused' as const;
        throw error;
      });
      tally[verdict].push(what);
    }
  }
  for (const [verdict, names] of Object.entries(tally)) t.diagnostic(`${verdict}: ${names.length}: ${names.join('; ')}`);
  assert.ok(tally.identical.length > 60 && tally.ours.length > 4 && tally.none.length > 4);
}

const COMPRESSORS: readonly (readonly [name: string, command: readonly string[]])[] = [
  ['gzip -1', ['gzip', '-1cn']], ['gzip -6', ['gzip', '-6c']], ['gzip -9', ['gzip', '-9cn']],
  ['pigz', ['pigz', '-c']], ['pigz -i', ['pigz', '-ci', '-b', '32']], ['pigz -9 -R', ['pigz', '-9cRn']],
];

async function realLayers(t: TestContext, go: GoSoci): Promise<void> {
  const folders = await someFolders('/usr/share', 24_000);
  if (folders.length === 0) return t.skip('nothing to pack below /usr/share');
  for (const format of ['gnu', 'pax']) {
    const { stdout: tar } = await must('tar', ['-C', '/usr/share', `--format=${format}`, '--sort=name', '-cf', '-', ...folders]);
    t.diagnostic(`${format}: ${tar.length} bytes of ${folders.join(', ')}`);
    for (const [name, [command = '', ...args]] of format === 'gnu' ? COMPRESSORS : COMPRESSORS.slice(3, 5)) {
      if (!findTool(command)) {
        t.diagnostic(`${command} is not installed`);
        continue;
      }
      const { stdout: packed } = await must(command, args, { input: tar });
      for (const spanSize of [200_000, 4 << 20]) await bothWays(go, packed, tar, spanSize, `${format}, ${name}`);
    }
    const third = Math.floor(tar.length / 3);
    const members = Buffer.concat([tar.subarray(0, third), tar.subarray(third, 2 * third), tar.subarray(2 * third)].map((piece) => gzipSync(piece)));
    await bothWays(go, members, tar, 1 << 20, `${format}, three members`);
  }
  for (const image of sourceImages(t, ['nginx'])) {
    for (const { digest } of layoutManifest(image.layout, image.tag).layers) {
      const packed = readFileSync(join(image.layout, 'blobs', ...digest.split(':')));
      await bothWays(go, packed, gunzipSync(packed), 4 << 20, digest);
    }
  }
}

/** Folders that have about so many KiB together. */
async function someFolders(parent: string, wanted: number): Promise<readonly string[]> {
  const { text } = await must('du', ['-k', '-d', '1', parent]);
  const sizes = new Map(text.trim().split('\n').map((line) => line.split('\t')).map(([size, path]) => [(path ?? '').slice(parent.length + 1), Number(size)]));
  const chosen: string[] = [];
  let total = 0;
  for (const name of ['zoneinfo', 'perl', 'perl5', 'bash-completion', 'i18n', 'mime', 'vim', 'doc', 'locale']) {
    const size = sizes.get(name) ?? 0;
    if (size === 0 || total + size > 2 * wanted || total > wanted) continue;
    chosen.push(name);
    total += size;
  }
  return chosen;
}

/** The same bytes, and read in full. */
async function bothWays(go: GoSoci, packed: Uint8Array, tar: Uint8Array, spanSize: number, what: string): Promise<void> {
  assert.equal(await compare(go, packed, tar, { spanSize }, `${what}, spans of ${spanSize}`), 'identical');
  await assertReadable(go, packed, await makeZtoc(soci, packed, tar, { spanSize }), what);
}
