import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { matcherOf } from '../../src/layer/glob.ts';

test('globs match clean paths, dot files too', () => {
  const cases: [string, string[], string[]][] = [
    ['a/*.so', ['a/x.so', 'a/.so', 'a/.x.so'], ['a/b/x.so', 'x.so', 'a/x.so/y']],
    ['**/*.so', ['x.so', 'a/x.so', 'a/.b/c/x.so'], ['x.soo']],
    ['a/**', ['a/b', 'a/b/c'], ['b/a']],
    ['a/?[0-9]', ['a/x1'], ['a/1', 'a/xx']],
    ['a{b,c}', ['a{b,c}'], ['ab']],
    ['!a', ['!a'], ['b']],
  ];
  for (const [pattern, yes, no] of cases) {
    const { glob } = matcherOf(pattern, pattern);
    for (const path of yes) assert.ok(glob(path), `${pattern} ${path}`);
    for (const path of no) assert.ok(!glob(path), `${pattern} ${path}`);
  }
});

test('a line keeps what the list said beside what it means', () => {
  const { pattern, literal, glob } = matcherOf('./a/*', 'a/*');
  assert.deepEqual([pattern, literal, glob('a/b')], ['./a/*', 'a/*', true]);
  // The root is a name and no glob.
  const root = matcherOf('/', '');
  assert.deepEqual([root.literal, root.glob(''), root.glob('a')], ['', false, false]);
});

test('what is no glob is a USAGE error', () => {
  const long = '*'.repeat(70_000);
  assert.throws(() => matcherOf(long, long), (error) => error instanceof LazypullError && error.code === 'USAGE' && error.message.length < 400);
});
