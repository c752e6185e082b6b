import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ListedEntry } from '../../src/cli/listing.ts';
import { openLocation, serveLayout, type ConvertReport, type CopyReport, type Descriptor, type InspectReport, type ReadStats, type VerifyReport } from '../../src/index.ts';
import { root } from '../support/root.ts';
import { run } from './harness.ts';

const REFERENCE = /^oci:[^\n]+@(sha256:[0-9a-f]{64})\n$/;

describe('commands', () => {
  let folder: string;
  let layout: string;
  const image = (name: string): string => `oci:${layout}:${name}`;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lazypull-commands-'));
    layout = join(folder, 'layout');
    await cp(join(root, 'fixtures', 'corpus', 'tiny'), layout, { recursive: true });
    const { code, stderr } = await run(['convert', image('app'), image('esgz')]);
    assert.equal(code, 0, stderr);
  });
  after(() => rm(folder, { recursive: true }));

  async function json<T>(...argv: string[]): Promise<T> {
    const { code, stdout, stderr } = await run([...argv, '--json']);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }

  describe('convert', () => {
    it('prints the reference alone on stdout, which the next command takes', async () => {
      const { code, stdout, stderr } = await run(['convert', image('app'), image('again')]);
      assert.equal(code, 0);
      assert.match(stdout, REFERENCE);
      assert.match(stderr, /^linux\/amd64\nLAYER +ACTION +SIZE/m);
      assert.match(stderr, /^lazypull: warning: layer sha256:[0-9a-f]{12}: 3 directories, such as .* have no tar entry;/m);
      assert.match(stderr, /^converted 5 layers in .*: 117\.6 kB -> \d+\.\d kB$/m);
      assert.equal((await run(['verify', stdout.trim(), '--against', image('app')])).code, 0);
    });

    it('is silent on stderr with --quiet', async () => {
      const { stdout, stderr } = await run(['convert', image('app'), image('again'), '-q']);
      assert.match(stdout, REFERENCE);
      assert.equal(stderr, '');
    });

    it('reports as JSON', async () => {
      const report = await json<ConvertReport>('convert', image('app'), image('again'));
      assert.match(`${report.reference}\n`, REFERENCE);
      assert.equal(report.reference.endsWith(report.digest), true);
      assert.deepEqual(report.platforms.map(({ platform }) => platform?.architecture), ['amd64', 'arm64']);
      assert.deepEqual(new Set(report.platforms.flatMap(({ layers }) => layers.map(({ action }) => action))), new Set(['converted']));
    });

    it('stores nothing with --dry-run', async () => {
      const target = join(folder, 'dry');
      const { code, stdout } = await run(['convert', image('app'), `oci:${target}:x`, '--dry-run']);
      assert.equal(code, 0);
      assert.match(stdout, /^would convert 5 layers/m);
      assert.deepEqual(await readdir(target).catch(() => []), []);
    });

    it('takes platforms and format options', async () => {
      const list = join(folder, 'list');
      await writeFile(list, 'etc/os-release\n');
      const report = await json<ConvertReport>('convert', image('app'), image('narrow'), '--platform', 'linux/arm64', '--prefetch-list', list, '--level', '1', '--jobs', '1', '--chunk-size', '1M');
      assert.deepEqual(report.platforms.map(({ platform }) => platform?.architecture), ['arm64']);
      const inspected = await json<InspectReport>('inspect', image('narrow'));
      assert.ok((inspected.images[0]?.layers[0]?.lazy?.prefetchBytes ?? 0) > 0);
    });

    it('keeps the tag in the reference when the index is found by it', async () => {
      const { code, stdout } = await run(['convert', image('app'), image('ext'), '--external-toc']);
      assert.equal(code, 0);
      assert.equal(stdout, `${image('ext')}\n`);
      assert.equal((await run(['cat', stdout.trim(), '/etc/os-release'])).stdout.split('\n')[0], 'NAME="Tiny"');
    });

    it('tells of the tag that holds the index, and counts what it really converted', async () => {
      const { stderr } = await run(['convert', image('app'), image('ext'), '--external-toc']);
      assert.match(stderr, /^also tagged ext-esgztoc: /m);
      const again = await run(['convert', image('esgz'), image('again')]);
      assert.match(again.stderr, /^converted 0 of 5 layers in /m);
    });

    it('refuses a layer that unpacks to too much', async () => {
      const { code, stdout, stderr } = await run(['convert', image('app'), image('bomb'), '--max-layer-size', '64K']);
      assert.deepEqual([code, stdout], [8, '']);
      assert.match(stderr, /^lazypull: [^\n]+\n$/);
      assert.equal((await run(['inspect', image('bomb')])).code, 3, 'nothing was tagged');
    });

    it('says what it does not find', async () => {
      assert.equal((await run(['convert', image('nope'), image('x')])).code, 3);
      assert.equal((await run(['convert', `oci:${folder}/nowhere:app`, image('x')])).code, 3);
    });
  });

  describe('inspect', () => {
    it('shows what is wrong with an image of which nothing can be shown', async () => {
      const place = await openLocation(image('liar'));
      const push = async (mediaType: string, document: object): Promise<Descriptor> => {
        const bytes = Buffer.from(JSON.stringify(document));
        return place.store.ingest(mediaType, (sink) => sink(bytes));
      };
      const config = await push('application/vnd.oci.image.config.v1+json', { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } });
      const mediaType = 'application/vnd.oci.image.manifest.v1+json';
      const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: config.digest, size: config.size };
      await place.store.tag(await push(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] }), place.reference);
      await place.store.close();
      const { code, stdout } = await run(['inspect', image('liar')]);
      assert.equal(code, 6);
      assert.match(stdout, /^problem: manifest sha256:.* layer/m);
    });

    it('shows a table per platform and what each layer says of itself', async () => {
      const { code, stdout, stderr } = await run(['inspect', image('esgz')]);
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, /^linux\/amd64 {2}sha256:/m);
      assert.match(stdout, /^linux\/arm64\/v8 {2}sha256:/m);
      assert.match(stdout, /^LAYER +FORMAT +SIZE +ENTRIES +CHUNKS +INDEX +OVERHEAD +READ FIRST$/m);
      assert.match(stdout, /^sha256:[0-9a-f]{12} +estargz /m);
      assert.match(stdout, /^ {2}containerd\.io\/snapshot\/stargz\/toc\.digest: sha256:[0-9a-f]{64}$/m);
      assert.match(stdout, /1 other document/);
    });

    it('shows an image that is not lazy', async () => {
      const { stdout } = await run(['inspect', image('app'), '--platform', 'linux/amd64']);
      assert.match(stdout, /^sha256:7c9d00a75373 +none +27\.2 kB +27\.2 kB$/m);
      assert.doesNotMatch(stdout, /arm64/);
    });

    it('reports as JSON', async () => {
      const report = await json<InspectReport>('inspect', image('esgz'));
      assert.equal(report.totals.lazyLayers, report.totals.layers);
      assert.equal(report.images.length, 2);
    });
  });

  describe('ls', () => {
    it('lists names, one per line, sorted by their bytes', async () => {
      const { code, stdout } = await run(['ls', image('esgz'), '/usr/share', '--platform', 'linux/amd64']);
      assert.equal(code, 0);
      const names = stdout.trimEnd().split('\n');
      assert.deepEqual(names, [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
      assert.ok(names.includes('na\u00efve-\u65e5\u672c\u8a9e-\u{1f433}.txt') && names.includes('book') && !names.includes('epoch'));
    });

    it('lists the root without a path, and all of it with -R', async () => {
      const top = (await run(['ls', image('esgz')])).stdout.trimEnd().split('\n');
      assert.deepEqual(top, ['bin', 'dev', 'etc', 'home', 'opt', 'run', 'srv', 'tmp', 'usr', 'var']);
      const all = (await run(['ls', '-R', image('esgz')])).stdout.trimEnd().split('\n');
      assert.ok(all.includes('opt/app/bin/start') && all.includes('usr') && !all.includes(''));
    });

    it('shows attributes and link targets with -l', async () => {
      const { stdout } = await run(['ls', '-l', image('esgz'), '/usr/bin', '--platform', 'linux/amd64']);
      assert.match(stdout, /^-rwsr-xr-x 0:0 +7 2024-01-01 00:00:00 su$/m);
      assert.match(stdout, /^-rwxr-sr-x 0:5 +7 2024-01-01 00:00:00 wall$/m);
      assert.match(stdout, /^lrwxrwxrwx 0:0 +0 2024-01-01 00:00:00 which -> \/usr\/bin\/show$/m);
      assert.match((await run(['ls', '-l', image('esgz'), '/dev'])).stdout, /^brw-rw---- 0:6 7,0 .* loop0\ncrw-rw-rw- 0:0 1,3 .* null$/m);
    });

    it('follows a symlink to a directory, but shows it with -l', async () => {
      assert.match((await run(['ls', image('esgz'), '/bin'])).stdout, /^show$/m);
      assert.match((await run(['ls', '-l', image('esgz'), '/bin'])).stdout, /^l[^\n]* \/bin -> usr\/bin\n$/);
      assert.match((await run(['ls', '-l', image('esgz'), '/bin/'])).stdout, / show$/m);
    });

    it('lists a file by the name it was asked for', async () => {
      assert.equal((await run(['ls', image('esgz'), 'etc/../etc/passwd'])).stdout, 'etc/../etc/passwd\n');
    });

    it('reports as JSON, with absolute paths and what --stats says', async () => {
      const listed = await json<{ path: string; entries: ListedEntry[]; stats: ReadStats }>('ls', image('esgz'), '/bin', '--platform', 'linux/amd64');
      assert.equal(listed.path, '/usr/bin');
      assert.deepEqual(listed.entries.find(({ path }) => path === '/usr/bin/ping')?.xattrs, { 'security.capability': 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=' });
      assert.ok(listed.stats.requests > 0);
    });

    it('says on stderr what it fetched', async () => {
      const { stderr } = await run(['ls', '--stats', image('esgz'), '/etc']);
      assert.match(stderr, /^fetched \d+\.\d kB of \d+\.\d kB \(\d+\.\d%\) in \d requests\n$/);
    });

    it('does not find what is not there, and cannot read what is not lazy', async () => {
      assert.deepEqual(await run(['ls', image('esgz'), '/nope']).then(({ code, stderr }) => [code, stderr]), [3, 'lazypull: no such file in the image (/nope)\n']);
      const { code, stderr } = await run(['ls', image('app')]);
      assert.equal(code, 7);
      assert.match(stderr, /convert the image first/);
    });
  });

  describe('cat', () => {
    it('prints files one after the other, byte for byte', async () => {
      const one = (await run(['cat', image('esgz'), '/usr/share/book/noise'])).stdoutBytes;
      assert.equal(one.length, 40_000);
      const two = (await run(['cat', image('esgz'), '/usr/share/book/noise', '/srv/start'])).stdoutBytes;
      assert.equal(two.toString('latin1'), one.toString('latin1') + 'its parents have no entries of their own\n');
    });

    it('prints a file of several chunks', async () => {
      const { stdoutBytes } = await run(['cat', image('esgz'), '/usr/share/book/pages-again.txt']);
      assert.equal(stdoutBytes.length, 4_500_000);
      assert.ok(stdoutBytes.subarray(0, 11).equals(Buffer.from('page 000001')));
    });

    it('stops at what is no file', async () => {
      assert.equal((await run(['cat', image('esgz'), '/etc/os-release', '/nope'])).code, 3);
      const { code, stderr } = await run(['cat', image('esgz'), '/etc']);
      assert.equal(code, 2);
      assert.match(stderr, /directory/);
    });

    it('picks the platform', async () => {
      for (const [platform, name] of [['linux/amd64', 'amd64'], ['arm64', 'arm64']] as const) {
        assert.match((await run(['cat', '--platform', platform, image('esgz'), '/etc/os-release'])).stdout, new RegExp(`\\(${name}\\)`));
      }
    });
  });

  describe('verify', () => {
    it('says what it looked at', async () => {
      const { code, stdout } = await run(['verify', image('esgz'), '--against', image('app')]);
      assert.equal(code, 0);
      assert.match(stdout, /^intact: 2 images, \d+ blobs .*\nsame tree as .*:app, attribute by attribute and byte for byte\n$/);
    });

    it('ends with 1 when something is wrong, and says what', async () => {
      const { code, stdout } = await run(['verify', image('esgz'), '--against', image('docker'), '--platform', 'linux/arm64']);
      assert.equal(code, 1);
      assert.match(stdout, /^DIFFERENT.*: /m);
      assert.match(stdout, /^\d+ problems? in /m);
      const asJson = await run(['verify', image('esgz'), '--against', image('docker'), '--platform', 'linux/arm64', '--json']);
      assert.equal(asJson.code, 1);
      const report = JSON.parse(asJson.stdout) as VerifyReport;
      assert.equal(report.ok, false);
      assert.ok(report.problems.length > 0);
    });

    it('ends with 1 when a blob is damaged', async () => {
      const damaged = join(folder, 'damaged');
      await cp(layout, damaged, { recursive: true });
      const blob = join(damaged, 'blobs', 'sha256', '535c3391076162450c2e594f010eceb0de4987b80a2070b2c8b59567edd58230');
      await rm(blob);
      await writeFile(blob, Buffer.alloc(415));
      const { code, stdout } = await run(['verify', `oci:${damaged}:app`]);
      assert.equal(code, 1);
      assert.match(stdout, /^(?:CORRUPT|DIGEST_MISMATCH).*535c33910761/m);
    });
  });

  describe('copy', () => {
    it('copies byte for byte and prints the reference', async () => {
      const target = join(folder, 'copied');
      const { code, stdout, stderr } = await run(['copy', image('esgz'), `oci:${target}:x`]);
      assert.equal(code, 0);
      const digest = REFERENCE.exec(stdout)?.[1];
      assert.equal((await json<InspectReport>('inspect', image('esgz'))).digest, digest);
      assert.match(stderr, /^copied .*, and 4 manifests$/m);
      assert.match((await run(['copy', image('esgz'), `oci:${target}:x`, '--if-changed'])).stderr, /is this image already/);
      assert.equal((await run(['copy', image('app'), `oci:${target}:x`, '--no-clobber'])).code, 2);
    });

    it('plans, narrows and reports', async () => {
      const target = `oci:${join(folder, 'planned')}:x`;
      assert.match((await run(['copy', image('esgz'), target, '--dry-run'])).stdout, /^would copy/);
      assert.equal((await run(['inspect', target])).code, 3);
      const report = await json<CopyReport>('copy', image('esgz'), target, '--platform', 'linux/arm64', '--jobs', '2');
      assert.equal(report.rewritten, true);
      assert.match((await run(['ls', target, '--platform', 'linux/arm64'])).stdout, /^etc$/m);
    });
  });

  describe('over a registry', () => {
    it('does all of it with docker:// references', async () => {
      const server = await serveLayout(layout);
      try {
        const at = (name: string): string => `docker://${server.host}/layout:${name}`;
        const flags = ['--plain-http'];
        const converted = await run(['convert', at('app'), at('remote'), ...flags]);
        assert.equal(converted.code, 0, converted.stderr);
        assert.match(converted.stdout, new RegExp(`^docker://${server.host}/layout@sha256:[0-9a-f]{64}\n$`));
        const reference = converted.stdout.trim();
        assert.equal((await run(['verify', reference, '--against', `${server.host}/layout:app`, ...flags])).code, 0);
        assert.match((await run(['cat', reference, '/etc/os-release', ...flags])).stdout, /^NAME="Tiny"$/m);
        assert.equal((await run(['copy', reference, `docker://${server.host}/other/name:1`, ...flags])).code, 0);
        assert.equal((await run(['ls', `${server.host}/other/name:1`, '/etc', ...flags])).code, 0);
        assert.equal((await run(['ls', at('missing'), ...flags])).code, 3);
      } finally {
        await server.close();
      }
    });

    it('does not send one registry the password of another', async () => {
      const argv = ['copy', 'docker://127.0.0.1:1/a', 'docker://127.0.0.1:2/a', '--username', 'u', '--password-stdin'];
      const { code, stderr } = await run(argv, { stdin: 'secret' });
      assert.equal(code, 2);
      assert.match(stderr, /127\.0\.0\.1:1 and 127\.0\.0\.1:2 are two/);
      assert.doesNotMatch(stderr, /secret/);
      assert.equal((await run(['verify', 'docker://127.0.0.1:1/a', '--against', 'docker://127.0.0.1:2/a', '--username', 'u', '--password-stdin'], { stdin: 'secret' })).code, 2);
    });
  });

  describe('serve', () => {
    it('says where it listens and what it has, until it is stopped', async () => {
      const stop = new AbortController();
      const running = run(['serve', layout, '--listen', '127.0.0.1:0', '--json', '--read-only', '--log'], {
        signal: stop.signal,
        onStdout: (text) => void (async () => {
          const { url, images } = JSON.parse(text) as { url: string; images: string[] };
          assert.ok(images.includes(`${url.slice('http://'.length)}/layout:esgz`));
          assert.equal((await fetch(`${url}/v2/layout/tags/list`)).status, 200);
          assert.equal((await fetch(`${url}/v2/layout/blobs/uploads/`, { method: 'POST' })).status, 405);
        })().finally(() => stop.abort()),
      });
      const { code, stderr } = await running;
      assert.equal(code, 0);
      assert.match(stderr, /^200 GET \/v2\/layout\/tags\/list \d+ B\n405 POST /);
    });

    it('reports an address that it cannot have', async () => {
      const server = await serveLayout(layout);
      try {
        const { code, stderr } = await run(['serve', layout, '--listen', server.host]);
        assert.equal(code, 9);
        assert.match(stderr, /cannot listen on/);
      } finally {
        await server.close();
      }
    });

    it('does not serve what is no layout', async () => {
      const other = join(folder, 'other');
      await cp(join(root, 'test', 'support'), other, { recursive: true });
      assert.equal((await run(['serve', other, '--listen', '127.0.0.1:0'], { signal: AbortSignal.timeout(5000) })).code, 2);
    });
  });

  it('shows no control characters of strangers on a terminal', async () => {
    const { stdout } = await run(['ls', '-R', image('esgz')], { terminal: 'stdout' });
    // oxlint-disable-next-line no-control-regex -- exactly what must not be there
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    assert.match(stdout, /^usr\/share\/na\u00efve/m);
  });

  it('shows progress on a terminal without disturbing the result', async () => {
    const { code, stdout, stderr } = await run(['convert', image('app'), image('shown')], { terminal: 'stderr' });
    assert.equal(code, 0);
    assert.match(stdout, REFERENCE);
    assert.match(stderr, /converting/);
    assert.ok(!(await run(['convert', image('app'), image('shown'), '--no-progress'], { terminal: 'stderr' })).stderr.includes('converting'));
  });
});
