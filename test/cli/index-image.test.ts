import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { builtinFormats } from '../../formats/builtin.ts';
import type { FormatEntry } from '../../src/core/format-entry.ts';
import { openLocation, type ConvertReport, type IndexReport, type InspectReport } from '../../src/index.ts';
import { TEST_BINDING, TEST_REFERRER, testIndexing } from '../image/indexing-format.ts';
import { run } from './harness.ts';
import { tempFolder, tinyLayout } from './tiny.ts';

/** A format that only describes layers; its code is that of the pipeline's own tests. */
const listening: FormatEntry = {
  name: 'listening', summary: '', rewrites: false, binding: TEST_BINDING, load: async () => testIndexing().format,
  options: [{ key: 'salt', flag: 'salt', kind: 'integer', help: '' }],
};
const formats = [...builtinFormats.filter(({ rewrites }) => rewrites), listening];

describe('index', () => {
  it('prints the reference of each index, leaves the image alone, and does nothing twice', async (t) => {
    const layout = await tinyLayout(t);
    const image = `oci:${layout}:app`;
    const digest = async (): Promise<string> => (JSON.parse((await run(['inspect', image, '--json'], { formats })).stdout) as InspectReport).digest;
    const before = await digest();
    const { code, stdout, stderr } = await run(['index', image], { formats });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^(?:oci:\S+@sha256:[0-9a-f]{64}\n){2}$/);
    assert.match(stderr, /^linux\/amd64\nLAYER +SIZE +INDEX +SHARE +ENTRIES +CHUNKS +TIME\nsha256:7c9d00a75373 +27\.2 kB +\d+ B +\d+\.\d\d% +3 /m);
    assert.match(stderr, /^indexed 5 layers in .*: \d+ B of index for 117\.6 kB \(\d\.\d\d%\)$/m);
    assert.equal(await digest(), before);
    const again = await run(['index', image], { formats });
    assert.deepEqual([again.code, again.stdout], [0, stdout]);
    assert.match(again.stderr, /^linux\/amd64: has an index already, --force adds another$/m);
    const place = await openLocation(stdout.split('\n')[0] as string);
    assert.equal((await place.store.resolve(place.reference)).artifactType ?? TEST_REFERRER, TEST_REFERRER);
    await place.store.close();
  });

  it('takes platforms, options and --force, and reports as JSON', async (t) => {
    const image = `oci:${await tinyLayout(t)}:app`;
    const json = async (...argv: string[]): Promise<IndexReport & { readonly artifacts: string[] }> => JSON.parse((await run(['index', image, ...argv, '--json'], { formats })).stdout) as never;
    const first = await json('--platform', 'linux/arm64', '--as', 'listening');
    assert.deepEqual(first.images.map(({ platform, action }) => [platform?.architecture, action]), [['arm64', 'indexed']]);
    assert.equal(first.artifacts.length, 1);
    const forced = await json('--platform', 'linux/arm64', '--force', '--salt', '7');
    assert.equal(forced.images[0]?.action, 'indexed');
    assert.notDeepEqual(forced.artifacts, first.artifacts);
    assert.match(forced.warnings.join(), /2 listening indexes/);
  });

  it('stores nothing with --dry-run', async (t) => {
    const image = `oci:${await tinyLayout(t)}:app`;
    const { code, stdout, stderr } = await run(['index', image, '--dry-run'], { formats });
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^would index 5 layers in /m);
    assert.match((await run(['index', image, '--dry-run'], { formats })).stdout, /^would index 5 layers in /m);
  });

  it('offers only formats that leave layers as they are', async () => {
    const { code, stderr } = await run(['index', 'oci:x:y', '--as', 'estargz'], { formats });
    assert.equal(code, 2);
    assert.match(stderr, /Allowed choices are listening\./);
    const { stdout } = await run(['index', '--help'], { formats });
    assert.match(stdout, /Options of --as listening:/);
    assert.doesNotMatch(stdout, /chunk-size|undefined/);
    assert.doesNotMatch((await run(['--help'], { formats: formats.slice(0, 1) })).stdout, /^ {2}index /m, 'without such a format there is nothing to index with');
  });
});

describe('convert with several formats', () => {
  it('makes new layers and describes them in one go', async (t) => {
    const layout = await tinyLayout(t);
    const argv = ['convert', `oci:${layout}:app`, `oci:${layout}:both`, '--format', 'estargz,listening', '--salt', '1'];
    const { code, stdout, stderr } = await run(argv, { formats });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^LAYER +ACTION .*CHUNKS +LISTENING INDEX +TIME$/m);
    assert.match(stderr, /^converted 5 layers in .* -> .*, and \d+ B of index$/m);
    const report = JSON.parse((await run([...argv, '--json'], { formats })).stdout) as ConvertReport;
    assert.ok(report.platforms.every(({ artifacts }) => artifacts.length === 1));
    assert.equal(stdout.trim().endsWith(report.digest), true);
  });

  it('leaves layers as they are when no format makes new ones', async (t) => {
    const layout = await tinyLayout(t);
    const { code, stderr } = await run(['convert', `oci:${layout}:app`, `oci:${layout}:indexed`, '--format', 'listening', '--platform', 'linux/amd64'], { formats });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^sha256:7c9d00a75373 +indexed +27\.2 kB +27\.2 kB +1\.00 /m);
    assert.match(stderr, /^indexed 4 layers in .*: \d+ B of index for /m);
    const { images } = JSON.parse((await run(['inspect', `oci:${layout}:indexed`, '--json'], { formats })).stdout) as InspectReport;
    assert.equal(images.filter(({ platform }) => platform?.architecture === 'arm64').length > 0, true, 'the other platform stays');
  });
});

describe('soci, from end to end', () => {
  it('indexes an image where it is, and every command reads it', async (t) => {
    const layout = await tinyLayout(t);
    const image = `oci:${layout}:app`;
    const flags = ['--platform', 'linux/amd64'];
    assert.equal((await run(['ls', image, ...flags])).code, 7);
    const { code, stdout, stderr } = await run(['index', image, '--min-layer-size', '0']);
    assert.equal(code, 0, stderr);
    assert.equal(stdout.trimEnd().split('\n').length, 2);
    assert.equal((await run(['cat', image, '/etc/hostname', ...flags])).stdout, 'tiny\n');
    assert.equal((await run(['verify', image])).code, 0);
    assert.match((await run(['inspect', image, ...flags])).stdout, /^sha256:7c9d00a75373 +soci [^]*^note: .*soci-snapshotter/m);
    assert.equal((await run(['extract', image, '/etc', '--tar', '-', ...flags])).code, 0);
  });

  it('binds indexes to a new image, which copies with them', async (t) => {
    const layout = await tinyLayout(t);
    const { code, stdout, stderr } = await run(['convert', `oci:${layout}:app`, `oci:${layout}:both`, '--format', 'estargz,soci', '--min-layer-size', '0']);
    assert.equal(code, 0, stderr);
    assert.equal((await run(['verify', stdout.trim(), '--against', `oci:${layout}:app`])).code, 0);
    const copy = `oci:${join(await tempFolder(t), 'copy')}:one`;
    assert.equal((await run(['copy', stdout.trim(), copy, '--platform', 'linux/arm64'])).code, 0);
    const { stdout: seen } = await run(['verify', copy]);
    assert.match(seen, /^intact: 1 image,/);
    assert.match((await run(['inspect', copy])).stdout, /^note: .*mounts this image lazily \(v2 index/m);
  });

  it('says why it leaves layers out', async (t) => {
    const layout = await tinyLayout(t);
    const { code, stdout, stderr } = await run(['index', `oci:${layout}:app`]);
    assert.deepEqual([code, stdout], [0, '']);
    assert.match(stderr, /^linux\/amd64: no layer was indexed\nLAYER .* LEFT OUT\nsha256:7c9d00a75373 .* 27176 bytes, less than/m);
    assert.match(stderr, /^indexed 0 of 5 layers in /m);
  });
});
