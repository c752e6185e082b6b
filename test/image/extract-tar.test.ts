import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { extractImage, type ExtractOptions } from '../../src/image/extract.ts';
import type { OpenImage } from '../../src/image/open.ts';
import { compareTrees } from '../../src/layer/compare.ts';
import { walk } from '../../src/layer/walk.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { readTar } from '../support/tar-read.ts';
import { lazyImage } from './extract-image.ts';
import type { Entry } from './fixture.ts';

const layers: Entry[][] = [
  [
    { path: './', mode: 0o751, uid: 5 }, { path: 'etc/', mode: 0o700 }, { path: 'etc/passwd', content: 'root\n', mode: 0o640, uid: 12, gid: 34, userName: 'someone', groupName: 'some' },
    { path: 'etc/gone', content: 'x' }, { path: 'usr/bin/busy', content: 'b'.repeat(5000), mode: 0o4755 }, { path: 'usr/bin/ls', type: 'hardlink', linkName: 'usr/bin/busy' },
    { path: 'link', type: 'symlink', linkName: 'etc/passwd', mode: 0o777 }, { path: 'dev/null', type: 'char', major: 1, minor: 3, mode: 0o666 }, { path: 'dev/pipe', type: 'fifo', mode: 0o600 },
    { path: 'cap', content: 'c', xattrs: new Map([['security.capability', Uint8Array.of(1, 0, 255)]]) }, { path: `${'long/'.repeat(60)}name`, content: 'deep' },
  ],
  [{ path: 'etc/.wh.gone', content: '' }, { path: 'etc/motd', content: 'hello', mtime: { seconds: 1, nanoseconds: 0 } }, { path: 'usr/bin/', mode: 0o711 }, { path: 'empty', content: '' }],
];

async function tarOf(image: OpenImage, options: ExtractOptions = {}): Promise<Buffer> {
  const parts: Buffer[] = [];
  const report = await extractImage(image, { sink: async (bytes) => void parts.push(Buffer.from(bytes)) }, options);
  assert.deepEqual([report.warnings, report.skipped], [[], 0]);
  return Buffer.concat(parts);
}

describe('extractImage as a tar', () => {
  it('writes the merged tree and loses nothing', async () => {
    const image = await lazyImage(layers);
    const tar = await tarOf(image);
    const again = await lazyImage([{ bytes: gzipSync(tar), diffId: digestOf(tar), mediaType: OCI.layerGzip }]);
    const [first, second] = [await image.tree(), await again.tree()];
    assert.ok([...walk(first)].length > 70);
    assert.deepEqual([...compareTrees(first, second, { names: true })], []);
    assert.deepEqual(await tarOf(await lazyImage(layers)), tar, 'the same bytes every time');
  });

  it('keeps hard links within the selection, and has directories behind what is in them', async () => {
    const image = await lazyImage(layers);
    const names = async (...paths: string[]): Promise<string[]> => (await readTar(await tarOf(image, { paths }))).entries.map(({ entry }) => `${entry.type} ${entry.path}`);
    assert.deepEqual(await names('/usr/bin/ls', '/usr/bin/busy'), ['file usr/bin/ls', 'hardlink usr/bin/busy', 'directory usr/bin/', 'directory ./']);
    assert.deepEqual(await names('/usr/bin/ls'), ['file usr/bin/ls', 'directory usr/bin/', 'directory ./']);
    assert.deepEqual(await names('link'), ['file etc/passwd', 'symlink link', 'directory etc/', 'directory ./']);
  });

  it('waits for its sink, hands on its error and is cancelled by its signal', async () => {
    const image = await lazyImage(layers);
    let busy = false;
    await extractImage(image, { sink: async () => {
      assert.ok(!busy);
      busy = true;
      await new Promise(setImmediate);
      busy = false;
    } });
    const full = new LazypullError('IO', 'full');
    await assert.rejects(extractImage(image, { sink: () => Promise.reject(full) }), full);
    const stop = new AbortController();
    await assert.rejects(extractImage(image, { sink: async () => stop.abort() }, { signal: stop.signal }), { code: 'CANCELLED' });
  });
});
