import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { mixture } from '../codec/samples.ts';
import { gzipLayouts } from './gzip-layouts.ts';

test('every layout inflates to its tar, and they are the same in every run', () => {
  const tar = mixture(150_000);
  const layouts = [...gzipLayouts(tar, { count: 200 })];
  for (const { name, packed, tar: whole } of layouts) {
    assert.ok(gunzipSync(packed).equals(whole), name);
    assert.ok(Buffer.from(whole.buffer, whole.byteOffset, tar.length).equals(tar), name);
    assert.ok(whole.subarray(tar.length).every((byte) => byte === 0), name);
  }
  assert.deepEqual([...gzipLayouts(tar, { count: 40 })], layouts.slice(0, 40));
  assert.notDeepEqual([...gzipLayouts(tar, { count: 1, seed: 2 })][0]?.packed, layouts[0]?.packed);
});

test('all that makes a difference is there', () => {
  const layouts = [...gzipLayouts(mixture(150_000), { count: 200 })];
  const some = (what: string, is: (layout: (typeof layouts)[number]) => boolean): void => {
    const found = layouts.filter(is).length;
    assert.ok(found >= 5 && found <= 195, `${found} layouts ${what}`);
  };
  some('of one member', ({ members }) => members === 1);
  some('of few members', ({ members }) => members > 1 && members < 8);
  some('of many members', ({ members }) => members > 20);
  some('with an empty start', ({ emptyStart }) => emptyStart);
  some('with padding of the tar', ({ tar }) => tar.length > 150_000);
  some('with zeros at the end', ({ zeros }) => zeros > 0);
  for (const flag of [1, 2, 4, 8, 16]) some(`with header flag ${flag}`, ({ packed }) => ((packed[3] as number) & flag) !== 0);
});
