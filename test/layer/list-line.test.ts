import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatListLine, parseListLine } from '../../src/layer/list-line.ts';

test('a line is a name, with parts behind a tab', () => {
  assert.deepEqual(parseListLine('/usr/bin/app'), { pattern: '/usr/bin/app' });
  assert.deepEqual(parseListLine('a b\t0-4095,8192-8192'), { pattern: 'a b', parts: [[0, 4095], [8192, 8192]] });
  assert.deepEqual(parseListLine('a\tb\t1-2'), { pattern: 'a\tb', parts: [[1, 2]] });
});

test('what does not look like parts belongs to the name', () => {
  for (const line of ['a\tb', 'a\t1-', 'a\t2-1', 'a\t1-2,', 'a\t1-2 ', '\t1-2', 'a\t1-2,9-3', `a\t0-${'9'.repeat(16)}`]) assert.deepEqual(parseListLine(line), { pattern: line });
});

test('what is written is read as it was', () => {
  const part = fc.tuple(fc.nat(), fc.nat()).map(([from, more]): [number, number] => [from, from + more]);
  fc.assert(fc.property(fc.string({ minLength: 1 }), fc.array(part, { minLength: 1, maxLength: 4 }), (pattern, parts) => {
    assert.deepEqual(parseListLine(formatListLine({ pattern, parts })), { pattern, parts });
  }));
  assert.equal(formatListLine({ pattern: 'a' }), 'a');
});
