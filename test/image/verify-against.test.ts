import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { verifyImage } from '../../src/image/verify.ts';
import type { VerifyReport } from '../../src/image/verify-report.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory, type MemoryStore } from '../../src/oci/memory.ts';
import { ARM, gzipLayer, lazyLayer, LINUX, MARK, putImage, putIndex, tarOf, testFormat, type Entry, type LayerBlob } from './fixture.ts';

const entries: Entry[] = [
  { path: 'etc/' }, { path: 'etc/passwd', content: 'root:x:0:0\n'.repeat(20), mode: 0o600, uid: 5, gid: 6 }, { path: 'etc/link', type: 'symlink', linkName: 'passwd' },
  { path: 'etc/hard', type: 'hardlink', linkName: 'etc/passwd' }, { path: 'empty', content: '' }, { path: 'small', content: 'tiny' },
];

const messages = (report: VerifyReport): string[] => report.problems.map(({ code, path, message }) => `${code} ${path ?? '-'} ${message}`);

describe('verifyImage against another image', () => {
  async function compare(before: readonly LayerBlob[], now: readonly LayerBlob[], specs: { before?: object; now?: object } = {}): Promise<VerifyReport> {
    const store = openMemory();
    const other = openMemory('other');
    await putImage(other, { layers: before, config: specs.before ?? {} }, 'original');
    await putImage(store, { layers: now, config: specs.now ?? {} }, 'app');
    return verifyImage({ store, reference: 'app' }, [testFormat], { against: { store: other, reference: 'original' } });
  }

  const upper: Entry[] = [{ path: 'etc/.wh.hard', content: '' }, { path: 'etc/new', content: 'new' }];

  it('finds no difference in a converted image', async () => {
    const report = await compare([gzipLayer(entries), gzipLayer(upper)], [lazyLayer(entries), lazyLayer(upper)]);
    assert.deepEqual(report.problems, []);
    assert.equal(report.against?.reference, 'memory:other:original');
    assert.deepEqual(report.notes, []);
  });

  it('names each difference once, with its layer', async () => {
    const changedEntries = entries.map((entry): Entry => (entry.path === 'small' ? { ...entry, content: 'TINY', userName: 'me' } : entry)).filter(({ path }) => path !== 'empty');
    const report = await compare([gzipLayer(entries), gzipLayer(upper)], [lazyLayer([...changedEntries, { path: 'extra' }]), lazyLayer(upper)]);
    assert.deepEqual(report.problems.map(({ code, path, message }) => [code, path, message.split(':').slice(0, 2).join()]), [
      ['DIFFERENT', 'empty', 'layer 1, missing'],
      ['DIFFERENT', 'extra', 'layer 1, extra'],
      ['DIFFERENT', 'small', 'layer 1, names'],
      ['DIFFERENT', 'small', 'layer 1, content'],
    ]);
  });

  it('compares only the merged trees when the layers are others', async () => {
    const squashed = entries.filter(({ path }) => path !== 'etc/hard').concat({ path: 'etc/new', content: 'new' });
    const report = await compare([gzipLayer(entries), gzipLayer(upper)], [lazyLayer(squashed)]);
    assert.deepEqual(report.problems, []);
    assert.match(report.notes.join(), /has 1 layer, the original 2/);
    const short = await compare([gzipLayer(entries), gzipLayer(upper)], [lazyLayer(squashed.slice(0, -1))]);
    assert.deepEqual(short.problems.map(({ path }) => path), ['etc/new']);
  });

  it('sees what the format added on one side only', async () => {
    const report = await compare([gzipLayer([...entries, { path: 'nested/' }, { path: `nested/${MARK}`, content: '' }])], [lazyLayer(entries)]);
    assert.deepEqual(report.problems.map(({ path }) => path), ['nested']);
  });

  it('lets times lose their fraction with a note, but nothing more', async () => {
    const at = (nanoseconds: number): Entry[] => [{ path: 'f', content: '', mtime: { seconds: 5, nanoseconds } }];
    const report = await compare([gzipLayer(at(700_000_000))], [lazyLayer([{ path: 'f', content: '', mtime: { seconds: 6, nanoseconds: 0 } }])]);
    assert.ok(report.ok);
    assert.match(report.notes.join(), /1 times lost their fraction/);
    assert.equal((await compare([gzipLayer(at(0))], [lazyLayer([{ path: 'f', content: '', mtime: { seconds: 6, nanoseconds: 0 } }])])).ok, false);
  });

  it('compares configs but for their diffIDs', async () => {
    const report = await compare([gzipLayer(entries)], [lazyLayer(entries)], { before: { config: { Cmd: ['sh'], Env: null } }, now: { config: { Env: undefined, Cmd: ['sh'] } } });
    assert.deepEqual(report.problems, []);
    const differs = await compare([gzipLayer(entries)], [lazyLayer(entries)], { now: { config: { Cmd: ['bash'] }, author: 'me' } });
    assert.match(messages(differs).join(), /configs differ in author, config/);
  });

  it('reports a broken original and does not guess', async () => {
    const broken = { ...gzipLayer(entries), bytes: gzipSync(tarOf(entries).subarray(0, 700)) };
    const report = await compare([broken], [lazyLayer(entries)]);
    assert.equal(report.ok, false);
    assert.match(report.notes.join(), /trees are not compared/);
  });

  async function indexes(): Promise<{ store: MemoryStore; original: MemoryStore }> {
    const store = openMemory();
    const original = openMemory('original');
    const amdLayers = [gzipLayer(entries)];
    const armLayers = [gzipLayer(upper)];
    await putIndex(original, [await putImage(original, { layers: amdLayers }), await putImage(original, { layers: armLayers, platform: ARM })], 'all');
    const amd = await putImage(store, { layers: [lazyLayer(entries)] });
    await putIndex(store, [await putImage(store, { layers: [lazyLayer(upper)], platform: ARM }), amd], 'all');
    await putIndex(store, [amd], 'some');
    await store.tag(amd, 'one');
    return { store, original };
  }

  it('pairs images by platform', async () => {
    const { store, original } = await indexes();
    const against = { store: original, reference: 'all' };
    assert.deepEqual((await verifyImage({ store, reference: 'all' }, [testFormat], { against })).problems, []);
    assert.match(messages(await verifyImage({ store, reference: 'some' }, [testFormat], { against })).join(), /image for linux\/arm64, which is missing here/);
    assert.deepEqual((await verifyImage({ store, reference: 'some' }, [testFormat], { against, platform: LINUX })).problems, []);
    const one = await verifyImage({ store, reference: 'one' }, [testFormat], { against });
    assert.deepEqual([one.ok, one.notes.length], [true, 1]);
    const reverse = await verifyImage({ store: original, reference: 'all' }, [testFormat], { against: { store, reference: 'some' } });
    assert.match(messages(reverse).join(), /original has no image for linux\/arm64/);
  });

  it('takes a shared layer for what it is: the same', async () => {
    const { original } = await indexes();
    let fetched = 0;
    const counting: ImageStore = Object.assign(Object.create(original) as ImageStore, {
      fetch: (descriptor: Descriptor, signal?: AbortSignal) => {
        if (descriptor.mediaType === OCI.layerGzip) fetched += 1;
        return original.fetch(descriptor, signal);
      },
      resolve: original.resolve.bind(original),
      open: original.open.bind(original),
    });
    const report = await verifyImage({ store: counting, reference: 'all' }, [testFormat], { against: { store: counting, reference: 'all' } });
    assert.ok(report.ok);
    assert.equal(fetched, 2);
  });
});
