import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtinFormats } from '../../../formats/builtin.ts';
import { soci } from '../../../formats/soci/index.ts';
import { resolveOptions } from '../../../formats/soci/options.ts';

const entry = builtinFormats.find(({ name }) => name === 'soci');

test('the list of formats says of soci what soci says of itself', async () => {
  assert.equal(await entry?.load(), soci);
  assert.deepEqual([entry?.name, entry?.binding, entry?.rewrites], [soci.name, soci.binding, false]);
});

test('its options are those of the format, with the same bounds', () => {
  assert.deepEqual(entry?.options.map(({ key }) => key).sort(), Object.keys(resolveOptions({})).sort());
  for (const { key, min, max } of entry?.options ?? []) {
    for (const [edge, step] of [[min, -1], [max, 1]] as const) {
      if (edge === undefined) continue;
      assert.doesNotThrow(() => resolveOptions({ [key]: edge }), key);
      assert.throws(() => resolveOptions({ [key]: edge + step }), /must be a whole number/, key);
    }
  }
});

test('it begins to follow what it can index and says why not of the rest', () => {
  const context = { ingest: async () => assert.fail('nothing is stored') };
  const follow = (mediaType: string, size: number, options = {}) => soci.follow({ mediaType, size }, context, options);
  const small = follow('application/vnd.oci.image.layer.v1.tar+gzip', (10 << 20) - 1);
  assert.ok(small !== 'repack' && 'skipped' in small);
  assert.throws(() => follow('application/vnd.oci.image.layer.v1.tar+gzip', 1, { spanSize: 0 }), /span size/);
  assert.equal(follow('application/vnd.oci.image.layer.v1.tar+zstd', 20 << 20, { transcodeZstd: true }), 'repack');
});
