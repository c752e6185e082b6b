import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { MountCache } from '../../../src/mount/data/cache.ts';
import { askAhead } from '../../../src/mount/host/ask-ahead.ts';
import { ImageSource } from '../../../src/mount/host/image-source.ts';
import type { ServeOptions } from '../../../src/mount/host/messages.ts';
import { openRegistry } from '../../../src/oci/registry.ts';
import { startFaultRegistry, type FaultRegistry } from '../../support/fault-registry.ts';
import { lazyLayer, LINUX, putImage, testFormat } from '../../image/fixture.ts';

/** A registry with an image, and what a daemon is told about it. */
async function setUp(t: TestContext): Promise<{ registry: FaultRegistry; options: ServeOptions; cache: MountCache }> {
  const registry = await startFaultRegistry();
  t.after(() => registry.close());
  const store = openRegistry({ domain: registry.host, path: 'team/app' }, { plainHttp: true });
  await putImage(store, { layers: [lazyLayer([{ path: 'a', content: 'a' }])] }, '1');
  await store.close();
  registry.log.length = 0;
  const dir = mkdtempSync(join(tmpdir(), 'lazypull-asked-'));
  const cache = await MountCache.open(dir);
  t.after(async () => {
    await cache.close();
    rmSync(dir, { recursive: true });
  });
  const options = { image: `docker://${registry.host}/team/app:1`, registry: { plainHttp: true, retry: { attempts: 1 } }, platform: LINUX } as unknown as ServeOptions;
  return { registry, options, cache };
}

const { signal } = new AbortController();
const quiet = (): void => undefined;

function sourceOf(options: ServeOptions, cache: MountCache, answer: ReturnType<typeof askAhead>): ImageSource {
  return new ImageSource(options, cache, { env: {}, loadFormats: async () => [testFormat as never], onWarning: quiet, onProgress: quiet, signal, asked: { answer, hear: quiet } });
}

test('what was asked while a daemon was loading is not asked again', async (t) => {
  const { registry, options, cache } = await setUp(t);
  const answer = askAhead(options, {}, quiet, signal);
  await answer;
  const before = registry.requests(undefined, /manifests/).length;
  assert.equal(before, 1, 'what the tag leads to is the manifest');
  const source = sourceOf(options, cache, answer);
  const image = await source.open();
  assert.equal(image.layers.length, 1);
  assert.deepEqual(registry.requests(undefined, /manifests\/(?!sha256-)/).length, before);
  await source.close();
});

test('a failure is told as it was, once; who asks again asks the registry', async (t) => {
  const { registry, options, cache } = await setUp(t);
  registry.inject({ path: /manifests/, fault: { kind: 'status', status: 403 } });
  const answer = askAhead(options, {}, quiet, signal);
  const { root } = await answer;
  assert.ok(root instanceof LazypullError, 'it was there');
  registry.heal();
  const source = sourceOf(options, cache, answer);
  await assert.rejects(source.open(), (error) => error === root);
  assert.equal((await source.open()).layers.length, 1);
  await source.close();
});

test('who has gone does not wait for an answer', async (t) => {
  const { options } = await setUp(t);
  const asked = await askAhead(options, {}, quiet, AbortSignal.abort());
  assert.ok(asked.root instanceof LazypullError && asked.root.code === 'CANCELLED', String(asked.root));
  await asked.location.store.close();
});
