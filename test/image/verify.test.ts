import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { Format } from '../../src/core/format.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import type { ImageProgress } from '../../src/image/progress.ts';
import { collect } from '../../src/core/stream.ts';
import { verifyImage, type VerifyOptions } from '../../src/image/verify.ts';
import type { VerifyReport } from '../../src/image/verify-report.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { ARM, gzipLayer, lazyLayer, LINUX, plainLayer, putAttestation, putImage, putIndex, testFormat, type Entry, type LayerBlob, type LazyOptions } from './fixture.ts';

const entries: Entry[] = [
  { path: 'etc/' }, { path: 'etc/passwd', content: 'root:x:0:0\n'.repeat(20), mode: 0o600, uid: 5, gid: 6 }, { path: 'etc/link', type: 'symlink', linkName: 'passwd' },
  { path: 'etc/hard', type: 'hardlink', linkName: 'etc/passwd' }, { path: 'empty', content: '' }, { path: 'small', content: 'tiny' },
];

async function verify(layers: readonly LayerBlob[], options: VerifyOptions = {}, formats: readonly Format<unknown>[] = [testFormat]): Promise<VerifyReport> {
  const store = openMemory();
  await putImage(store, { layers }, 'app');
  return verifyImage({ store, reference: 'app' }, formats, options);
}

const messages = (report: VerifyReport): string[] => report.problems.map(({ code, path, message }) => `${code} ${path ?? '-'} ${message}`);

/** The store, with the bytes of one blob replaced where they are read: a registry that serves something else. */
function tampered(store: ImageStore, target: Descriptor | { digest: string }, change: (bytes: Buffer) => Buffer, original: Uint8Array): ImageStore {
  const bytes = change(Buffer.from(original));
  return {
    location: store.location,
    resolve: (reference, signal) => store.resolve(reference, signal),
    has: (descriptor, signal) => store.has(descriptor, signal),
    open: (descriptor) => (descriptor.digest === target.digest ? new MemorySource(bytes) : store.open(descriptor)),
    // As a real store does it: what flows is held against the descriptor.
    fetch: (descriptor, signal) => (descriptor.digest === target.digest ? verifiedStream(bytes, descriptor) : store.fetch(descriptor, signal)),
    tag: () => Promise.reject(new Error('read only')),
    push: () => Promise.reject(new Error('read only')),
    ingest: () => Promise.reject(new Error('read only')),
    close: () => store.close(),
  };
}

async function* verifiedStream(bytes: Uint8Array, descriptor: Descriptor): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 700) yield bytes.subarray(at, at + 700);
  if (bytes.length !== descriptor.size) throw new LazypullError('SIZE_MISMATCH', `blob ${descriptor.digest} has another size`);
  if (digestOf(bytes) !== descriptor.digest) throw new LazypullError('DIGEST_MISMATCH', `blob ${descriptor.digest} has another digest`);
}

describe('verifyImage', () => {
  it('finds nothing wrong with good layers, lazy or not', async () => {
    const lazy = lazyLayer(entries);
    const report = await verify([lazy, gzipLayer(entries), plainLayer([])]);
    assert.deepEqual(report.problems, []);
    assert.equal(report.ok, true);
    const [first, second] = report.images[0]?.layers ?? [];
    // 220 bytes in chunks of 64, the small file and the format's own.
    assert.deepEqual(first, { digest: digestOf(lazy.bytes), mediaType: OCI.layer, size: lazy.bytes.length, diffId: lazy.diffId, format: 'test', formats: ['test'], entries: 7, files: 4, chunks: 6, tarSize: lazy.bytes.length });
    assert.deepEqual([second?.format, second?.formats, second?.files, second?.chunks], [null, [], 3, 0]);
    assert.deepEqual(report.totals.chunks, 6);
    assert.deepEqual(report.totals.blobs, 4);
    assert.deepEqual(report.totals.manifests, 1);
    assert.deepEqual(report.notes, []);
    assert.equal(report.reference, 'memory:memory:app');
  });

  it('looks at every platform, shared layers once, and at attestations', async () => {
    const store = openMemory();
    const lazy = lazyLayer(entries);
    const amd = await putImage(store, { layers: [lazy, gzipLayer([])], platform: LINUX });
    const arm = await putImage(store, { layers: [lazy], platform: ARM });
    await putIndex(store, [amd, arm, await putAttestation(store, amd)], 'app');
    const events: ImageProgress[] = [];
    const report = await verifyImage({ store, reference: 'app' }, [testFormat], { progress: (event) => events.push(event) });
    assert.deepEqual([report.ok, report.images.length, report.totals.manifests], [true, 2, 4]);
    assert.deepEqual(report.images.map(({ platform }) => platform), [LINUX, ARM]);
    const moved = events.reduce((sum, event) => sum + (event.type === 'bytes' ? event.bytes : 0), 0);
    assert.deepEqual(events[0], { type: 'total', blobs: report.totals.blobs, bytes: moved });
    assert.equal(events.filter((event) => event.type === 'blob').length, report.totals.blobs);
    const one = await verifyImage({ store, reference: 'app' }, [testFormat], { platform: ARM });
    assert.deepEqual(one.images.map(({ digest }) => digest), [arm.digest]);
  });

  it('notes foreign layers and those that are no tar, and checks the digests of the latter', async () => {
    const foreign = { ...gzipLayer(entries), mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip' };
    const other = { bytes: Buffer.from('erofs'), diffId: digestOf(), mediaType: 'application/vnd.erofs.layer.v1' };
    const report = await verify([foreign, other]);
    assert.ok(report.ok);
    assert.equal(report.notes.length, 2);
  });

  it('finds the wrong platform, history and number of layers', async () => {
    const store = openMemory();
    const good = await putImage(store, { layers: [gzipLayer([])] });
    const history = await putImage(store, { layers: [gzipLayer([])], config: { history: [] as object[] } });
    await putImage(store, { layers: [gzipLayer([])], config: { history: [{}, {}] } }, 'history');
    await putImage(store, { layers: [gzipLayer([])], config: { rootfs: { type: 'layers', diff_ids: [] } } }, 'count');
    await putIndex(store, [{ ...good, platform: ARM }, history], 'platform');
    for (const [reference, pattern] of [['history', /history speaks of 2/], ['count', /0 diff_ids/], ['platform', /index says linux\/arm64, the config linux\/amd64/]] as const) {
      const report = await verifyImage({ store, reference }, [testFormat]);
      assert.equal(report.ok, false, reference);
      assert.match(messages(report).join('\n'), pattern);
      assert.equal(report.problems.length, 1);
    }
  });

  it('finds other content in a data field', async () => {
    const store = openMemory();
    const good = await putImage(store, { layers: [gzipLayer([])] });
    const bytes = await collect(store.fetch(good), 1 << 20);
    for (const [data, wrong] of [[Buffer.from(bytes).toString('base64'), 0], ['AAAA', 1], ['not base64', 1]] as const) {
      await putIndex(store, [{ ...good, data }], 'app');
      const report = await verifyImage({ store, reference: 'app' }, [testFormat]);
      assert.deepEqual(report.problems.map(({ code }) => code), Array(wrong).fill('DIGEST_MISMATCH'));
    }
  });

  it('reports a child that is missing and goes on with the others', async () => {
    const store = openMemory();
    const good = await putImage(store, { layers: [gzipLayer([])] });
    const gone: Descriptor = { mediaType: OCI.manifest, digest: digestOf(Buffer.from('gone')), size: 4, platform: ARM };
    await putIndex(store, [gone, good], 'app');
    const report = await verifyImage({ store, reference: 'app' }, [testFormat]);
    assert.deepEqual(report.problems.map(({ code, image }) => [code, image]), [['NOT_FOUND', gone.digest]]);
    assert.equal(report.images.length, 1);
  });

  it('throws what is not about the image', async () => {
    const store = openMemory();
    await putImage(store, { layers: [lazyLayer(entries)] }, 'app');
    const code = (wanted: ErrorCode) => (error: unknown): boolean => error instanceof LazypullError && error.code === wanted;
    await assert.rejects(verifyImage({ store, reference: 'nope' }, [testFormat]), code('NOT_FOUND'));
    await assert.rejects(verifyImage({ store, reference: 'app' }, [testFormat], { signal: AbortSignal.abort() }), code('CANCELLED'));
    const down: Format<unknown> = { ...testFormat, open: () => Promise.reject(new LazypullError('NETWORK', 'down')) };
    await assert.rejects(verifyImage({ store, reference: 'app' }, [down]), code('NETWORK'));
  });
});

describe('blobs that are wrong', () => {
  const cases: [string, LayerBlob, (bytes: Buffer) => Buffer][] = [
    ['a flipped bit in a lazy layer', lazyLayer(entries), (bytes) => flip(bytes, 2600)],
    ['a flipped bit in a gzip layer', gzipLayer(entries), (bytes) => flip(bytes, 40)],
    ['a truncated gzip layer', gzipLayer(entries), (bytes) => bytes.subarray(0, -20)],
    ['a truncated lazy layer', lazyLayer(entries), (bytes) => bytes.subarray(0, 700)],
    ['something behind a layer', gzipLayer(entries), (bytes) => Buffer.concat([bytes, Buffer.from('surplus')])],
    ['nothing at all', gzipLayer(entries), () => Buffer.alloc(0)],
  ];
  for (const [what, layer, change] of cases) {
    it(`are reported: ${what}`, async () => {
      const store = openMemory();
      await putImage(store, { layers: [layer, gzipLayer([])] }, 'app');
      const digest = digestOf(layer.bytes);
      const report = await verifyImage({ store: tampered(store, { digest }, change, layer.bytes), reference: 'app' }, [testFormat]);
      assert.equal(report.ok, false);
      assert.ok(report.problems.some(({ code }) => code === 'DIGEST_MISMATCH' || code === 'SIZE_MISMATCH'), messages(report).join('\n'));
      assert.ok(report.problems.every(({ layer: at }) => at === digest));
      assert.ok(report.problems.every(({ code }) => code !== 'INTERNAL'));
    });
  }

  it('name the file whose chunk is hit', async () => {
    const layer = lazyLayer(entries);
    const at = Buffer.from(layer.bytes).indexOf('tiny');
    const store = openMemory();
    await putImage(store, { layers: [layer] }, 'app');
    const report = await verifyImage({ store: tampered(store, { digest: digestOf(layer.bytes) }, (bytes) => flip(bytes, at), layer.bytes), reference: 'app' }, [testFormat]);
    assert.ok(report.problems.some(({ code, path, offset }) => code === 'DIGEST_MISMATCH' && path === 'small' && offset === at), messages(report).join('\n'));
    // The chunk, the blob; the tar itself could not be trusted and is not compared.
    assert.equal(report.problems.length, 2);
  });

  it('every single flipped bit in a lazy layer is noticed', async () => {
    const layer = lazyLayer([{ path: 'f', content: 'abc' }]);
    const store = openMemory();
    await putImage(store, { layers: [layer] }, 'app');
    for (let at = 0; at < layer.bytes.length; at += 37) {
      const report = await verifyImage({ store: tampered(store, { digest: digestOf(layer.bytes) }, (bytes) => flip(bytes, at), layer.bytes), reference: 'app' }, [testFormat]);
      assert.equal(report.ok, false, `byte ${at}`);
    }
  });

  it('with a wrong diffID or a bomb inside are reported', async () => {
    const wrong = { ...gzipLayer(entries), diffId: digestOf(Buffer.from('else')) };
    assert.match(messages(await verify([wrong])).join('\n'), /^DIGEST_MISMATCH - layer 1 .* inflates to diffID sha256:.*, the image config says sha256:/);
    const bomb = { bytes: gzipSync(Buffer.alloc(1 << 20)), diffId: digestOf(Buffer.alloc(1 << 20)), mediaType: OCI.layerGzip };
    assert.deepEqual((await verify([bomb], { maxLayerSize: 1000 })).problems.map(({ code }) => code), ['LIMIT']);
    const noTar = { bytes: gzipSync(Buffer.from('hello'.repeat(200))), diffId: digestOf(Buffer.from('hello'.repeat(200))), mediaType: OCI.layerGzip };
    assert.deepEqual((await verify([noTar])).problems.map(({ code }) => code), ['CORRUPT']);
  });
});

describe('an index that disagrees with its tar', () => {
  /** The layer is consistent in its digests: only index and tar say different things. */
  async function problemsOf(change: LazyOptions['change'], options: LazyOptions = {}): Promise<string[]> {
    const report = await verify([lazyLayer(entries, { ...options, ...(change && { change }) })]);
    assert.equal(report.ok, report.problems.length === 0);
    return report.problems.map(({ code, path, message }) => `${code} ${path} ${/: ([a-z-]+): /.exec(message)?.[1] ?? message.slice(0, 40)}`);
  }

  it('in attributes', async () => {
    assert.deepEqual(await problemsOf((records) => {
      for (const record of records) {
        if (record.path === 'etc/passwd') record.header = { ...record.header, mode: 0o644, uid: 0 };
        if (record.path === 'etc/link') record.header = { ...record.header, linkName: 'shadow' };
        if (record.path === 'small') record.header = { ...record.header, mtime: { seconds: 1, nanoseconds: 0 } };
      }
    }), ['DIFFERENT etc/hard mode', 'DIFFERENT etc/hard uid', 'DIFFERENT etc/link target', 'DIFFERENT etc/passwd mode', 'DIFFERENT etc/passwd uid', 'DIFFERENT small mtime']);
  });

  it('in what is there', async () => {
    assert.deepEqual(await problemsOf((records) => {
      const at = records.findIndex(({ path }) => path === 'empty');
      const [empty] = records.splice(at, 1);
      if (empty) records.push({ ...empty, path: 'ghost' });
    }), ['DIFFERENT empty missing', 'DIFFERENT ghost extra']);
  });

  it('in links', async () => {
    assert.deepEqual(await problemsOf((records) => {
      const hard = records.find(({ path }) => path === 'etc/hard');
      if (hard) hard.header = { ...hard.header, linkName: 'small' };
    }), ['DIFFERENT etc/hard mode', 'DIFFERENT etc/hard uid', 'DIFFERENT etc/hard gid', 'DIFFERENT etc/hard size', 'DIFFERENT etc/passwd hardlink', 'DIFFERENT small hardlink']);
  });

  it('in sizes', async () => {
    const found = await problemsOf((records) => {
      for (const record of records) if (record.path === 'small') record.header = { ...record.header, size: 3 };
    });
    assert.ok(found.includes('DIFFERENT small size'), found.join('\n'));
  });

  it('in digests of chunks and files', async () => {
    const wrong = digestOf(Buffer.from('wrong'));
    const found = await verify([lazyLayer(entries, { change: (records) => {
      for (const record of records) if (record.path === 'etc/passwd') record.digests[1] = wrong;
    } })]);
    // What is stored does not match, and neither does the tar: both are said.
    assert.deepEqual(found.problems.map(({ code, path }) => [code, path]), [['DIGEST_MISMATCH', 'etc/passwd'], ['DIGEST_MISMATCH', 'etc/passwd']]);
    assert.deepEqual(await problemsOf((records) => {
      for (const record of records) if (record.path === 'small') record.digest = wrong;
    }), ['DIFFERENT small content']);
  });

  it('in contents, when the format has no digests of chunks', async () => {
    assert.deepEqual(await problemsOf(undefined, { noChunkDigests: true }), []);
    const moved: LazyOptions['change'] = (records) => {
      for (const record of records) {
        if (record.path !== 'etc/passwd') continue;
        record.offset += 1;
        delete record.digest;
      }
    };
    const found = await problemsOf(moved, { noChunkDigests: true });
    assert.ok(found.length > 0 && found.every((line) => line.startsWith('DIGEST_MISMATCH etc/passwd')), found.join('\n'));
  });

  it('in an index that cannot be opened', async () => {
    const layer = lazyLayer(entries);
    const report = await verify([{ ...layer, annotations: { 'test.lazypull.index': digestOf() } }]);
    assert.deepEqual(report.problems.map(({ code, message }) => [code, message]), [['CORRUPT', 'test index has the wrong digest']]);
    assert.equal(report.images[0]?.layers[0]?.entries, 7, 'the tar is read all the same');
  });

  it('lists a limited number of problems and counts the rest', async () => {
    const many = Array.from({ length: 50 }, (_, i): Entry => ({ path: `f${i}`, content: '' }));
    const report = await verify([lazyLayer(many, { change: (records) => records.splice(1) })], { maxProblems: 10 });
    assert.deepEqual([report.problems.length, report.omitted, report.ok], [10, 40, false]);
  });

  it('knows that the last entry of a path counts', async () => {
    const twice: Entry[] = [{ path: 'a', content: 'first version' }, { path: 'a', content: 'second versio' }];
    assert.deepEqual((await verify([lazyLayer(twice)])).problems, []);
    const earlier = await verify([lazyLayer(twice, { change: (records) => records.splice(2, 1) })]);
    assert.ok(earlier.problems.some(({ path }) => path === 'a'));
  });

  it('reports what the format itself finds wrong, and the size of the tar', async () => {
    const opened: Format<unknown> = { ...testFormat, open: async (layer, signal) => ({ ...(await testFormat.open(layer, signal)), problems: ['no landmark'], tarSize: 7 }) };
    const report = await verify([lazyLayer(entries)], {}, [opened]);
    assert.deepEqual(report.problems.map(({ code }) => code), ['CORRUPT', 'SIZE_MISMATCH']);
    assert.match(messages(report).join('\n'), /no landmark[^]*its index says 7/);
  });

  it('reads what no digest vouches for as a reader would', async () => {
    // Two files in one chunk: extents are parts of it, and the format has no digest of files.
    const packed: Format<unknown> = {
      ...testFormat,
      open: async (layer, signal) => {
        const open = await testFormat.open(layer, signal);
        for (const node of open.index.root.children.values()) {
          if (node.type !== 'file' || node.size === 0) continue;
          const [extent] = node.extents;
          if (!extent) continue;
          const chunk = { ...extent.chunk, offset: extent.chunk.offset - 2, length: extent.chunk.length + 2, size: extent.chunk.size + 2 };
          Object.assign(node, { digest: undefined, extents: [{ ...extent, chunk: { blob: 0, offset: chunk.offset, length: chunk.length, size: chunk.size }, chunkOffset: 1 }] });
        }
        return { ...open, index: { ...open.index, chunks: [] } };
      },
    };
    const report = await verify([lazyLayer([{ path: 'f', content: 'abc' }])], {}, [packed]);
    assert.deepEqual(report.problems.map(({ code, path }) => [code, path]), [['DIGEST_MISMATCH', 'f']]);
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  bytes[at] = (bytes[at] as number) ^ 1;
  return bytes;
}
