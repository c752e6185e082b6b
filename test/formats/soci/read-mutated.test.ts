import assert from 'node:assert/strict';
import { it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { equalBytes } from '../../../src/core/bytes.ts';
import { LazypullError } from '../../../src/core/errors.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import type { OpenLayer } from '../../../src/core/types.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { openSoci } from '../../../formats/soci/read.ts';
import { WINDOW_SIZE, type Checkpoint, type Ztoc, type ZtocRecord } from '../../../formats/soci/layout.ts';
import { spanRanges } from '../../../formats/soci/zinfo.ts';
import { decodeZtoc, encodeZtoc } from '../../../formats/soci/ztoc.ts';
import { numbers } from '../../codec/samples.ts';
import { indexed } from './made-by-writer.ts';
import { sampleImage, sampleTar } from './sample-image.ts';

const TAR = Buffer.from(sampleTar([700, 1500, 0, 40]));
const PACKED = Buffer.concat([gzipSync(TAR.subarray(0, 4000), { memLevel: 1 }), gzipSync(TAR.subarray(4000), { level: 0 })]);
const RUNS = 10_000;

const random = numbers(11);
const below = (limit: number): number => Math.floor(random() * limit);
const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;

/** Any change to the bytes: bits, bytes, words, cuts, bytes moved. Only the head and the tail of windows are worth it. */
function mutateBytes(bytes: Uint8Array): Uint8Array {
  const mutated = Buffer.from(bytes);
  for (let left = 1 + below(4); left > 0; left--) {
    const at = below(3) === 0 ? below(mutated.length) : below(2) === 0 ? below(400) : mutated.length - 1 - below(4000);
    const kind = below(6);
    if (kind === 0) mutated[at] = (mutated[at] as number) ^ (1 << below(8));
    else if (kind === 1) mutated[at] = pick([0, 1, 0x7f, 0x80, 0xff]);
    else if (kind === 2 && at + 4 <= mutated.length) mutated.writeUInt32LE(pick([0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, mutated.length]), at);
    else if (kind === 3 && at + 8 <= mutated.length) mutated.writeBigInt64LE(pick([0n, 1n, -1n, 2n ** 53n, 2n ** 62n, -(2n ** 63n), BigInt(TAR.length)]), at);
    else if (kind === 4) mutated.copyWithin(at, below(mutated.length), below(mutated.length));
    else if (kind === 5 && below(4) === 0) return mutated.subarray(0, at);
  }
  return mutated;
}

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
async function readAll(bytes: Uint8Array, seen: Map<string, number>): Promise<void> {
  const count = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1);
  const { layers } = sampleImage([{ packed: PACKED, ztoc: bytes }]);
  let layer: OpenLayer;
  try {
    layer = await openSoci(layers[0] as StoredLayer);
  } catch (error) {
    assert.ok(error instanceof LazypullError && error.code !== 'INTERNAL', String(error));
    count(`open ${error.code}`);
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
      count(honest ? 'read' : 'read something');
    } catch (error) {
      assert.ok(error instanceof LazypullError && error.code !== 'INTERNAL', String(error));
      count(`read ${error.code}`);
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
  const seen = new Map<string, number>();
  for (let i = 0; i < RUNS; i++) await readAll(i % 2 ? mutateBytes(ORIGINAL) : mutateFields(ZTOC), seen);
  for (const what of ['open CORRUPT', 'read', 'read CORRUPT', 'read DIGEST_MISMATCH']) assert.ok((seen.get(what) ?? 0) > 100, `${what}: ${JSON.stringify([...seen])}`);
});
