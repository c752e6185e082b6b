import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { chooseSpans } from '../../../formats/soci/choose-prefetch.ts';
import { madeLayer, type Made } from './made-ztoc.ts';

/** What a list chooses: the runs of each layer, by its place, and the lines that nothing matches. Undefined is a layer that is not indexed. */
function choose(layers: readonly (readonly Made[] | undefined)[], ...patterns: string[]): { runs: Record<number, string>; unmatched: readonly string[] } {
  const made = layers.map((entries) => entries && madeLayer(entries));
  const { runs, unmatched } = chooseSpans(made.map((one) => one && { digest: one.descriptor.digest, ztoc: one.details.ztoc }), patterns);
  const named = made.flatMap((one, i) => {
    const own = one && runs.get(one.descriptor.digest);
    return own ? [[i, own.map(({ start, end }) => (start === end ? `${start}` : `${start}-${end}`)).join(' ')]] : [];
  });
  return { runs: Object.fromEntries(named) as Record<number, string>, unmatched };
}

// Spans of two blocks. Each file's header is counted with it: a, headers in span 0; b, header in span 1; and so on.
const BASE: readonly Made[] = [
  { name: './usr/', type: 'dir' }, // block 0
  { name: './usr/bin/', type: 'dir' }, // 1
  { name: './usr/bin/python3.12', size: 1024 }, // header 2, data 3-4: spans 1-2
  { name: './usr/bin/python3', type: 'symlink', linkName: 'python3.12' }, // 5
  { name: './bin', type: 'symlink', linkName: 'usr/bin' }, // 6
  { name: './usr/lib/a.so', size: 512 }, // header 7, data 8: spans 3-4
  { name: './usr/lib/b.so', size: 512 }, // header 9, data 10: spans 4-5
  { name: './usr/lib/c.so', type: 'hardlink', linkName: './usr/lib/b.so' }, // 11
  { name: './usr/lib/.hidden', size: 512 }, // header 12, data 13: span 6
  { name: './usr/lib/empty', size: 0 }, // 14
  { name: './etc/[x]', size: 512 }, // header 15, data 16: spans 7-8
  { name: './loop', type: 'symlink', linkName: 'loop' }, // 17
  { name: './dangling', type: 'symlink', linkName: '/nowhere' }, // 18
];

test('paths are found however the list and the layer spell them, and the header counts with the file', () => {
  for (const spelled of ['usr/bin/python3.12', '/usr/bin/python3.12', './usr//bin/./python3.12', 'usr/lib/../bin/python3.12']) {
    assert.deepEqual(choose([BASE], spelled), { runs: { 0: '1-2' }, unmatched: [] }, spelled);
  }
  assert.deepEqual(choose([[{ name: '/opt/x', size: 1 }]], 'opt/x'), { runs: { 0: '0' }, unmatched: [] });
});

test('symlinks lead to their files, at the end of a path and on the way, in globs too', () => {
  for (const spelled of ['usr/bin/python3', 'bin/python3', 'bin/python3.12', 'bin/py*', '/bin/*', 'usr/bin/python?']) {
    assert.deepEqual(choose([BASE], spelled), { runs: { 0: '1-2' }, unmatched: [] }, spelled);
  }
});

test('links that lead nowhere are there, and have no spans', () => {
  assert.deepEqual(choose([BASE], 'loop', 'dangling', 'd*'), { runs: {}, unmatched: [] });
});

test('hard links share their spans', () => {
  assert.deepEqual(choose([BASE], 'usr/lib/c.so'), { runs: { 0: '4-5' }, unmatched: [] });
});

test('globs: runs that touch become one, dot files match, a directory stands for itself only', () => {
  assert.deepEqual(choose([BASE], 'usr/lib/*.so'), { runs: { 0: '3-5' }, unmatched: [] });
  assert.deepEqual(choose([BASE], 'usr/**/*.so', 'usr/bin/*'), { runs: { 0: '1-5' }, unmatched: [] });
  assert.deepEqual(choose([BASE], 'usr/lib/*'), { runs: { 0: '3-6' }, unmatched: [] });
  assert.deepEqual(choose([BASE], 'usr/lib', '/', 'usr/*'), { runs: {}, unmatched: [] });
  assert.deepEqual(choose([BASE], 'usr/lib/empty'), { runs: {}, unmatched: [] });
});

test('a name that looks like a glob is a name first', () => {
  assert.deepEqual(choose([BASE], 'etc/[x]'), { runs: { 0: '7-8' }, unmatched: [] });
  assert.deepEqual(choose([[{ name: 'etc/x', size: 1 }]], 'etc/[x]'), { runs: { 0: '0' }, unmatched: [] });
});

test('lines that nothing matches are told', () => {
  assert.deepEqual(choose([BASE], 'usr/lib/*.dylib', 'no/such/file', 'usr/lib/a.so/x', 'nowhere/*').unmatched, ['usr/lib/*.dylib', 'no/such/file', 'usr/lib/a.so/x', 'nowhere/*']);
  assert.throws(() => choose([BASE], `usr/${'*'.repeat(70_000)}`), (error) => error instanceof LazypullError && error.code === 'USAGE');
});

test('the file that shows is the one that counts: upper layers replace, whiteouts hide', () => {
  const upper: readonly Made[] = [
    { name: 'usr/lib/pad', size: 4096 },
    { name: 'usr/lib/a.so', size: 512 }, // header 9, data 10: spans 4-5
    { name: 'usr/lib/.wh.b.so' },
  ];
  assert.deepEqual(choose([BASE, upper], 'usr/lib/a.so', 'usr/lib/b.so'), { runs: { 1: '4-5' }, unmatched: ['usr/lib/b.so'] });
  assert.deepEqual(choose([BASE, [{ name: 'usr/lib/.wh..wh..opq' }]], 'usr/lib/*', 'bin/python3'), { runs: { 0: '1-2' }, unmatched: ['usr/lib/*'] });
  // The other name of a hidden hard link still shows.
  assert.deepEqual(choose([BASE, upper], 'usr/lib/c.so'), { runs: { 0: '4-5' }, unmatched: [] });
});

test('links lead from layer to layer', () => {
  const upper: readonly Made[] = [{ name: 'run', type: 'symlink', linkName: '/bin/python3' }];
  assert.deepEqual(choose([BASE, upper], 'run'), { runs: { 0: '1-2' }, unmatched: [] });
});

test('a layer that is not indexed is passed over; one that is there twice counts once', () => {
  assert.deepEqual(choose([undefined, BASE, undefined], 'bin/python3'), { runs: { 1: '1-2' }, unmatched: [] });
  assert.deepEqual(choose([BASE, [{ name: 'usr/bin/.wh.python3.12' }], BASE], 'bin/python3'), { runs: { 0: '1-2', 2: '1-2' }, unmatched: [] });
  assert.deepEqual(choose([undefined], 'x'), { runs: {}, unmatched: ['x'] });
});
