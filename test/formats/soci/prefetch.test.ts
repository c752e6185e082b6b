import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LazypullError, type ErrorCode } from '../../../src/core/errors.ts';
import { decodePrefetch, encodePrefetch, type SpanRun } from '../../../formats/soci/prefetch.ts';

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const decode = (value: unknown): readonly SpanRun[] => decodePrefetch(json(value), 'list');
const refuses = (code: ErrorCode, message: RegExp) => (error: unknown) => error instanceof LazypullError && error.code === code && message.test(error.message);

test('the list of the format notes comes out byte for byte', () => {
  const bytes = encodePrefetch([{ start: 50, end: 55 }, { start: 10, end: 15 }]);
  assert.equal(Buffer.from(bytes).toString(), '{"version":"1.0","prefetch_spans":[{"start_span":10,"end_span":15},{"start_span":50,"end_span":55}]}');
});

test('runs that overlap or touch become one', () => {
  const runs = [{ start: 4, end: 4 }, { start: 0, end: 2 }, { start: 1, end: 1 }, { start: 3, end: 3 }, { start: 6, end: 9 }];
  assert.deepEqual(decodePrefetch(encodePrefetch(runs), 'list'), [{ start: 0, end: 4 }, { start: 6, end: 9 }]);
});

test('priorities are passed over, an empty list is one', () => {
  assert.deepEqual(decode({ version: '1.0', prefetch_spans: [{ start_span: 1, end_span: 2, priority: 7 }] }), [{ start: 1, end: 2 }]);
  for (const spans of [[], null, undefined]) assert.deepEqual(decode({ version: '1.0', prefetch_spans: spans }), []);
});

test('nonsense is refused with what was found', () => {
  const cases: [string, unknown, ErrorCode, RegExp][] = [
    ['another version', { version: '2.0', prefetch_spans: [] }, 'UNSUPPORTED', /^list has version 2\.0, not 1\.0/],
    ['no version', { prefetch_spans: [] }, 'CORRUPT', /no version/],
    ['no list', { version: '1.0', prefetch_spans: {} }, 'CORRUPT', /not a list/],
    ['no run', { version: '1.0', prefetch_spans: [null] }, 'CORRUPT', /entry 1/],
    ['a run backwards', { version: '1.0', prefetch_spans: [{ start_span: 0, end_span: 0 }, { start_span: 3, end_span: 2 }] }, 'CORRUPT', /entry 2/],
    ['a negative span', { version: '1.0', prefetch_spans: [{ start_span: -1, end_span: 2 }] }, 'CORRUPT', /entry 1/],
    ['half a span', { version: '1.0', prefetch_spans: [{ start_span: 0.5, end_span: 2 }] }, 'CORRUPT', /entry 1/],
    ['a span beyond int32', { version: '1.0', prefetch_spans: [{ start_span: 0, end_span: 2 ** 31 }] }, 'CORRUPT', /entry 1/],
    ['text for a span', { version: '1.0', prefetch_spans: [{ start_span: '0', end_span: '1' }] }, 'CORRUPT', /entry 1/],
  ];
  for (const [what, value, code, message] of cases) assert.throws(() => decode(value), refuses(code, message), what);
  assert.throws(() => decodePrefetch(Buffer.from('[1]'), 'list'), refuses('CORRUPT', /not a JSON object/));
});

test('a decoded list is sorted, apart, and names the same spans', () => {
  const run = fc.tuple(fc.nat(60), fc.nat(5)).map(([start, more]): SpanRun => ({ start, end: start + more }));
  const spansOf = (runs: readonly SpanRun[]): number[] => [...new Set(runs.flatMap(({ start, end }) => Array.from({ length: end - start + 1 }, (_, i) => start + i)))].sort((a, b) => a - b);
  fc.assert(fc.property(fc.array(run), (runs) => {
    const decoded = decode({ version: '1.0', prefetch_spans: runs.map(({ start, end }) => ({ start_span: start, end_span: end })) });
    assert.deepEqual(spansOf(decoded), spansOf(runs));
    decoded.forEach(({ start }, i) => assert.ok(i === 0 || start > (decoded[i - 1] as SpanRun).end + 1));
    assert.deepEqual(decodePrefetch(encodePrefetch(runs), 'list'), decoded);
  }));
});

test('mutated lists end in a typed error or a list', () => {
  const good = Buffer.from(encodePrefetch([{ start: 1, end: 2 }, { start: 9, end: 30 }]));
  fc.assert(fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
    const bytes = Buffer.from(good);
    bytes[at] = byte;
    try {
      for (const { start, end } of decodePrefetch(bytes, 'list')) assert.ok(start <= end);
    } catch (error) {
      assert.ok(error instanceof LazypullError, String(error));
    }
  }), { numRuns: 1000 });
});
