import assert from 'node:assert/strict';
import { it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { equalBytes } from '../../../src/core/bytes.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import type { OpenLayer } from '../../../src/core/types.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { openSoci } from '../../../formats/soci/read.ts';
import { WINDOW_SIZE, type Checkpoint, type Ztoc, type ZtocRecord } from '../../../formats/soci/layout.ts';
import { spanRanges } from '../../../formats/soci/zinfo.ts';
import { decodeZtoc, encodeZtoc } from '../../../formats/soci/ztoc.ts';
import { assertSeen, codeOf, count, dice, mutateBytes, type Outcomes } from '../../support/mutations.ts';
import { indexed } from './made-by-writer.ts';
import { sampleImage, sampleTar } from './sample-image.ts';

const TAR = Buffer.from(sampleTar([700, 1500, 0, 40]));
const PACKED = Buffer.concat([gzipSync(TAR.subarray(0, 4000), { memLevel: 1 }), gzipSync(TAR.subarray(4000), { level: 0 })]);
const RUNS = 10_000;

const chance = dice(11);
const { below, pick } = chance;

/** Only the head and the tail of windows are worth it. */
const mutate = (bytes: Uint8Array): Uint8Array =>
  mutateBytes(chance, bytes, (length) => (below(3) === 0 ? below(length) : below(2) === 0 ? below(400) : length - 1 - below(4000)), TAR.length);

/** A zTOC that is well formed and lies. Digests of spans are made again, or nothing would be inflated. */
function mutateFields(ztoc: Ztoc): Uint8Array {
  assert.ok(ztoc.spans.algorithm === 'gzip');
  const size = (value: number): number => Math.max(0, pick([value, value + 1, value - 1, value + 512, value - 512, 0, below(20_000), 2 ** 31, 2 ** 53 - 1]));
  const records = ztoc.records.map((record): ZtocRecord => {
    if (below(5) > 0) return record;
    const name = pick([record.name, '', '.', '..', '/../x', 'a/../../b', 'x'.repeat(300), `${record.name}/below`, 'bin']);
    const type = pick<ZtocRecord['type']>(['reg', 'hardlink', 'symlink', 'char', 'block', 'dir', 'fifo']);
    return pick([
      { ...record, offset: size(record.offset) }, { ...record, size: size(record.size) }, { ...record, name }, { ...record, type }, { ...record, linkName: name, type },
      { ...record, modTime: pick(['', 'yesterday', '2023-02-30T00:00:00Z', '9999-12-31T23:59:59.999999999-23:59']) }, { ...record, mode: size(record.mode) }, { ...record, uid: below(9) },
    ]);
  });
  const checkpoints = ztoc.spans.checkpoints.map((checkpoint): Checkpoint => {
    if (below(4) > 0) return checkpoint;
    if (below(4) === 0) return { ...checkpoint, window: new Uint8Array(WINDOW_SIZE).fill(below(256)) };
    return pick([{ ...checkpoint, in: size(checkpoint.in) }, { ...checkpoint, out: size(checkpoint.out) }, { ...checkpoint, bits: below(8) }]);
  });
  const order = below(10) === 0 ? records.toReversed() : records;
  const changed: Ztoc = { ...ztoc, records: order, spans: { ...ztoc.spans, checkpoints }, tarSize: below(4) === 0 ? size(ztoc.tarSize) : ztoc.tarSize };
  const ranges = spanRanges(changed);
  return encodeZtoc({ ...changed, spanDigests: below(4) === 0 ? ztoc.spanDigests : ranges.map(({ packedStart, packedEnd }) => digestOf(PACKED.subarray(packedStart, packedEnd))) });
}

/**
 * Opens and reads everything, by the one decoder or the other: right bytes or a LazypullError, and how often it was the one or the other.
 * What a zTOC says about its files is held against the tar; where inflating begins, and with what window, only its own
 * digest vouches for, which here is made again. Then no more can be asked than the right number of bytes.
 */
async function readAll(bytes: Uint8Array, seen: Outcomes): Promise<void> {
  const { layers } = sampleImage([{ packed: PACKED, ztoc: bytes }]);
  let layer: OpenLayer;
  try {
    layer = await openSoci(layers[0] as StoredLayer);
  } catch (error) {
    count(seen, `open ${codeOf(error)}`);
    return;
  }
  const honest = saysTheSame(decodeZtoc(bytes));
  const { inflate, recheck } = layer;
  assert.ok(recheck);
  const reader = new LayerReader({ ...layer, inflate: below(2) ? inflate : recheck });
  for (const { path, node } of walk(layer.index.root)) {
    if (node.type !== 'file') continue;
    try {
      const content = await reader.readFile(node, 0, node.size, { path });
      assert.equal(content.length, node.size);
      if (honest) assert.ok(TAR.includes(Buffer.from(content)), `${path} is not in the tar`);
      count(seen, honest ? 'read' : 'read something');
    } catch (error) {
      count(seen, `read ${codeOf(error)}`);
    }
  }
}

const { bytes: ORIGINAL, ztoc: ZTOC } = await indexed(PACKED, { spanSize: 5000 });

function saysTheSame({ spans, tarSize }: Ztoc): boolean {
  assert.ok(spans.algorithm === 'gzip' && ZTOC.spans.algorithm === 'gzip');
  const { checkpoints } = ZTOC.spans;
  return tarSize === ZTOC.tarSize && spans.checkpoints.length === checkpoints.length && spans.checkpoints.every((one, i) => {
    const other = checkpoints[i] as Checkpoint;
    return one.in === other.in && one.out === other.out && one.bits === other.bits && equalBytes(one.window, other.window);
  });
}

it(`${RUNS} mutated zTOCs give typed errors or right bytes, and never hang`, { timeout: 300_000 }, async () => {
  assert.ok(ZTOC.spanDigests.length === 2);
  const seen: Outcomes = new Map();
  for (let i = 0; i < RUNS; i++) await readAll(i % 2 ? mutate(ORIGINAL) : mutateFields(ZTOC), seen);
  assertSeen(seen, ['open CORRUPT', 'read', 'read CORRUPT', 'read DIGEST_MISMATCH'], 100);
});
