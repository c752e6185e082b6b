import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { Descriptor, ImageStore } from '../../src/core/types.ts';
import { convertImage } from '../../src/image/convert.ts';
import { copyImage } from '../../src/image/copy.ts';
import { openImage } from '../../src/image/open.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { openMemory } from '../../src/oci/memory.ts';
import { LINUX, plainLayer, putBlob, putImage, putIndex, testFormat } from './fixture.ts';

const refuses = (code: ErrorCode, text: RegExp) => (error: unknown) => error instanceof LazypullError && error.code === code && text.test(error.message);

/** Everything that reads the documents of an image, by what it is called. */
function verbs(store: ImageStore): [string, () => Promise<unknown>][] {
  const place = { store, reference: 'app' };
  const target = { store: openMemory('target'), reference: 'app' };
  return [
    ['open', () => openImage(place, [testFormat], { platform: LINUX })],
    ['copy', () => copyImage(place, target)],
    ['copy of one platform', () => copyImage(place, target, { platforms: [LINUX] })],
    ['convert', () => convertImage(place, target, { format: testFormat, options: {} }, { dryRun: true, jobs: 1 })],
    ['verify', async () => {
      const { ok, problems } = await verifyImage(place, [testFormat]);
      if (!ok) throw new LazypullError(problems[0]?.code ?? 'INTERNAL', problems[0]?.message ?? '');
    }],
  ];
}

/** An image inside `depth` indexes. */
async function nested(store: ImageStore, depth: number, times = 1): Promise<Descriptor> {
  let inner = await putImage(store, { layers: [plainLayer([{ path: 'a', content: 'a' }])] });
  for (let i = 0; i < depth; i++) inner = await putIndex(store, Array.from({ length: times }, () => inner), i === depth - 1 ? 'app' : undefined);
  return inner;
}

describe('documents of strangers', () => {
  it('follow indexes inside each other as far as every verb does', async () => {
    const store = openMemory('four');
    await nested(store, 4);
    // The test format opens layers but makes none.
    for (const [name, run] of verbs(store)) if (name !== 'convert') await assert.doesNotReject(run(), name);
    const deeper = openMemory('five');
    await nested(deeper, 5);
    for (const [name, run] of verbs(deeper)) await assert.rejects(run(), refuses('LIMIT', /more than 4 indexes inside each other/), name);
  });

  it('stop where indexes list each other many times', async () => {
    const store = openMemory('bomb');
    await nested(store, 4, 150);
    for (const [name, run] of verbs(store)) {
      // Copying and verifying look at each document once, however often it is listed.
      if (name === 'copy' || name === 'verify') await assert.doesNotReject(run(), name);
      else await assert.rejects(run(), refuses('LIMIT', /more than 20000 manifests/), name);
    }
  });

  it('are refused when they nest so deeply that they could not be written again', async () => {
    const store = openMemory('deep');
    const layer = plainLayer([{ path: 'a', content: 'a' }]);
    const blob = await putBlob(store, layer.mediaType, layer.bytes);
    const rootfs = { type: 'layers', diff_ids: [layer.diffId] };
    const config = Buffer.from(`{"os":"linux","architecture":"amd64","rootfs":${JSON.stringify(rootfs)},"x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    await putImage(store, { layers: [], manifest: { config: await putBlob(store, OCI.config, config), layers: [blob] } }, 'app');
    for (const [name, run] of verbs(store)) {
      if (name.startsWith('copy')) continue;
      await assert.rejects(run(), refuses('LIMIT', /config of .* nests more than 500 levels/), name);
    }
  });
});
