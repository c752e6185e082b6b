import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../src/oci/documents.ts';
import { fixtures, loadPairs } from '../../fixtures/pairs.ts';
import { sourceImages } from '../support/peers-cli.ts';
import { buildGo } from '../support/peers-containerd.ts';
import { run } from '../support/peers.ts';
import { convertToLayout, layoutManifest, TOC_DIGEST } from './steps.ts';

interface Told {
  readonly error?: string;
  readonly tocDigest?: string;
  readonly diffId?: string;
  readonly entries: number;
  readonly files: number;
  readonly chunks: number;
}

const VARIANTS: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ['default options', []],
  ['small chunks', ['--chunk-size', '65536']],
  ['stored', ['--level', '0']],
  ['smallest', ['--level', '9']],
  ['shared members', ['--min-chunk-size', '50000']],
  ['an external TOC', ['--external-toc']],
  ['the diffID kept', ['--keep-diff-id']],
];

test("stargz-snapshotter's library opens our layers, verifies the TOC and reads every file back", async (t) => {
  const checker = await buildGo(t, 'go-estargz');
  if (checker.program === undefined) return t.skip(checker.reason);
  const check = async (args: readonly string[]): Promise<Told> => {
    const ran = await run(checker.program, ['check', ...args], { timeout: 300_000 });
    const told = JSON.parse(ran.text) as Told;
    assert.equal(told.error, undefined, `${args.join(' ')}: ${told.error}`);
    assert.equal(ran.code, 0);
    return told;
  };

  await t.test('the golden layers', async () => {
    const folder = join(fixtures, 'golden', 'estargz');
    for (const { name, facts } of loadPairs('golden', 'estargz')) {
      const toc = facts.externalToc ? ['-toc', join(folder, facts.externalToc.layer)] : [];
      const told = await check([...toc, join(folder, `${name}.blob`), facts.annotations[TOC_DIGEST] ?? '']);
      assert.equal(told.diffId, facts.diffId);
    }
  });

  for (const [name, flags] of VARIANTS) {
    await t.test(name, async (s) => {
      for (const image of sourceImages(s, flags.length === 0 ? ['tiny', 'nginx'] : ['tiny'])) {
        const converted = await convertToLayout(s, image, ...flags);
        const folder = converted.slice('oci:'.length, -':esgz'.length);
        const blob = (digest: string): string => join(folder, 'blobs', 'sha256', digest.slice(7));
        const manifest = layoutManifest(folder, 'esgz');
        const diffIds = parseConfig(readFileSync(blob(manifest.config.digest))).rootfs.diff_ids;
        const external = flags.some((flag) => flag === '--external-toc' || flag === '--keep-diff-id');
        const tocs = external ? layoutManifest(folder, 'esgz-esgztoc').layers : [];
        let chunks = 0;
        for (const [i, layer] of manifest.layers.entries()) {
          const toc = tocs.find(({ annotations }) => annotations?.['containerd.io/snapshot/stargz/layer.digest'] === layer.digest);
          assert.equal(toc !== undefined, external, `layer ${i}`);
          const told = await check([
            ...(flags.includes('--min-chunk-size') ? ['-shared-members'] : []), ...(toc ? ['-toc', blob(toc.digest)] : []),
            blob(layer.digest), layer.annotations?.[TOC_DIGEST] ?? '',
          ]);
          assert.equal(told.diffId, diffIds[i]);
          chunks += told.chunks;
        }
        assert.ok(chunks > 20, `${chunks} chunks`);
      }
    });
  }
});
