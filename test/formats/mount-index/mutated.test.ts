import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { OpenLayer } from '../../../src/core/types.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { decodeMountIndex } from '../../../formats/mount-index/artifact.ts';
import { mountIndex } from '../../../formats/mount-index/index.ts';
import { decodeHead } from '../../../formats/mount-index/layout.ts';
import { NOWHERE } from '../../../formats/mount-index/tar-file.ts';
import { decodeTree } from '../../../formats/mount-index/tree-decode.ts';
import { assertSeen, codeOf, count, dice, mutateBytes, type Outcomes } from '../../support/mutations.ts';
import { HEAD, INDEX, PARTS, TAR, withParts, type Parts } from './sample.ts';

const DECODED = 10_000;
const OPENED = 400;

const chance = dice(17);
const { below, pick } = chance;
const mutate = (bytes: Uint8Array): Uint8Array => mutateBytes(chance, bytes, (length) => (below(2) === 0 ? below(length) : below(Math.min(400, length))), TAR.length);

/** What an attempt came to. */
async function outcome(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'ok';
  } catch (error) {
    return codeOf(error);
  }
}

it(`${DECODED} mutated heads, trees and manifests are read or give typed errors`, { timeout: 120_000 }, async () => {
  const seen: Outcomes = new Map();
  const json = Buffer.from(JSON.stringify({ schemaVersion: 2, artifactType: 'application/vnd.lazypull.mount-index.v1+json', config: INDEX.subject, layers: INDEX.layers.map(({ descriptor, layer, head, tree }) => ({ ...descriptor, annotations: { 'dev.lazypull.mount-index.layer': layer, 'dev.lazypull.mount-index.head': `${head.size} ${head.digest}`, 'dev.lazypull.mount-index.tree': `${tree.size} ${tree.digest}` } })), subject: INDEX.subject }));
  assert.equal(decodeMountIndex(json, 'manifest').layers.length, 1);
  for (let i = 0; i < DECODED; i += 1) {
    const [name, work] = pick([
      ['head', () => decodeHead(mutate(PARTS.head), 'head')],
      ['tree', () => decodeTree(mutate(PARTS.tree), NOWHERE, TAR.length, 'tree')],
      ['manifest', () => decodeMountIndex(mutate(json), 'manifest')],
    ] as const);
    count(seen, `${name} ${await outcome(work)}`);
  }
  assertSeen(seen, ['head ok', 'head CORRUPT', 'head LIMIT', 'head UNSUPPORTED', 'tree ok', 'tree CORRUPT', 'manifest ok', 'manifest CORRUPT'], 5);
});

it('a tree cannot stand for more than its bytes', async () => {
  // A million names in one directory, all of the same one letter, and files that all are the whole tar.
  const row = [0x01, 0x01, 0x61];
  for (const rows of [[0, 0, 0x42, 0, ...row, ...row], [0, 0, 0x42, 0, 0x07, 0x01, 0x61, 0x00], [0, 0, 0x42, 0], [0xff, 0xff, 0xff, 0xff, 0x0f, 0], [0, 0, 0x41, 0]]) {
    assert.equal(await outcome(() => decodeTree(Uint8Array.from(rows), NOWHERE, 1 << 20, 'tree')), 'CORRUPT', rows.join());
  }
  const whole = (name: number, ahead: number): number[] => [0x01, 0x01, name, 0xa4, 0x03, 0, 0, 0, 0, 0, 0, 0x80, 0x08, ahead];
  assert.equal(await outcome(() => decodeTree(Uint8Array.from([0, 0, 0x42, 0, ...whole(0x61, 0), 0]), NOWHERE, 1024, 'tree')), 'ok');
  // Two of them at one place, and one behind the end.
  assert.equal(await outcome(() => decodeTree(Uint8Array.from([0, 0, 0x42, 0, ...whole(0x61, 0), ...whole(0x62, 3), 0]), NOWHERE, 1 << 20, 'tree')), 'CORRUPT');
  assert.equal(await outcome(() => decodeTree(Uint8Array.from([0, 0, 0x42, 0, ...whole(0x61, 2), 0]), NOWHERE, 1024, 'tree')), 'CORRUPT');
});

it(`${OPENED} indexes of mutated parts, each with its proper digest, give right bytes or typed errors`, { timeout: 120_000 }, async () => {
  const seen: Outcomes = new Map();
  for (let i = 0; i < OPENED; i += 1) {
    const part = pick<keyof Parts>(['head', 'head', 'tree', 'windows', 'merged']);
    const { image, layer } = await withParts({ [part]: mutate(PARTS[part]) });
    assert.ok(await mountIndex.detect(layer));
    if (part === 'merged') {
      count(seen, `merged ${await outcome(async () => mountIndex.premade?.(image))}`);
      const said = await mountIndex.examine?.(image);
      count(seen, `examined ${said?.problems.length ? 'badly' : 'well'}`);
      continue;
    }
    let opened: OpenLayer | undefined;
    count(seen, `open ${await outcome(async () => (opened = await mountIndex.open(layer)))}`);
    if (opened) await readAll(opened, part === 'tree' ? undefined : TAR, seen);
  }
  assertSeen(seen, ['open ok', 'open CORRUPT', 'read ok', 'read DIGEST_MISMATCH', 'read CORRUPT', 'merged CORRUPT', 'examined badly'], 2);
});

/** With a digest for every piece only the right bytes can come, at the place that the tree says. */
async function readAll(layer: OpenLayer, tar: Buffer | undefined, seen: Outcomes): Promise<void> {
  const { inflate, recheck } = layer;
  const reader = new LayerReader({ ...layer, inflate: below(2) === 0 || !recheck ? inflate : recheck });
  const wrong = layer.index.chunks.some(({ digest }, i) => digest !== HEAD.pieces.digest(i));
  for (const { path, node } of walk(layer.index.root)) {
    if (node.type !== 'file' || node.size > 1 << 22) continue;
    count(seen, `read ${await outcome(async () => {
      const content = Buffer.from(await reader.readFile(node, 0, node.size, { path }));
      assert.equal(content.length, node.size);
      if (tar && !wrong) assert.ok(tar.includes(content), `${path} is not in the tar`);
    })}`);
  }
}
