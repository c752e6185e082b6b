import assert from 'node:assert/strict';
import { test } from 'node:test';
import { corrupt, isAbort, LazypullError, printable, throwIfAborted, wrapError } from '../../src/core/errors.ts';

test('a message names what and where, on one line, whatever a stranger calls things', () => {
  const error = corrupt('size field is not a number', { path: 'a\nb\u001b[31m', offset: 512 });
  assert.equal(error.message, 'size field is not a number (a\\x0ab\\x1b[31m at offset 512)');
  assert.deepEqual([error.code, error.path, error.offset], ['CORRUPT', 'a\nb\u001b[31m', 512]);
  assert.equal(corrupt('x', { offset: 0 }).message, 'x (at offset 0)');
  assert.equal(corrupt('x').message, 'x');
  assert.equal(printable('\u009b\u2028\u007f'), '\\x9b\\x2028\\x7f');
});

test('wrapping keeps our errors and causes, and knows an abort', () => {
  const ours = corrupt('x');
  assert.equal(wrapError(ours, 'IO', 'y'), ours);
  const cause = new Error('disk on\nfire');
  const wrapped = wrapError(cause, 'IO', 'cannot read', { path: 'p' });
  assert.deepEqual([wrapped.message, wrapped.code, wrapped.cause], ['cannot read: disk on\\x0afire (p)', 'IO', cause]);
  const aborted = wrapError(AbortSignal.abort().reason, 'IO', 'cannot read');
  assert.equal(aborted.code, 'CANCELLED');
  assert.ok(isAbort(aborted) && !isAbort(wrapped));
  assert.throws(() => throwIfAborted(AbortSignal.abort()), (error) => error instanceof LazypullError && error.code === 'CANCELLED');
  throwIfAborted(undefined);
});
