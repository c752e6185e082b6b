import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { HttpError } from '../../src/oci/http-error.ts';
import { isRetryableStatus, parseRetryAfter, Retrier } from '../../src/oci/retry.ts';
import { rejectsWith } from './store-contract.ts';

function failure(retryable: boolean, retryAfterMs?: number): HttpError {
  return new HttpError('NETWORK', 'GET answered 503', { path: 'http://r/', retryable, retryAfterMs });
}

function recorded(random = 0, attempts = 5): { retrier: Retrier; delays: number[] } {
  const delays: number[] = [];
  const sleep = async (ms: number): Promise<void> => {
    delays.push(ms);
  };
  return { retrier: new Retrier({ attempts, sleep, random: () => random }), delays };
}

describe('parseRetryAfter', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const cases: readonly (readonly [string | undefined, number | undefined])[] = [
    [undefined, undefined], ['', undefined], ['0', 0], ['120', 120_000], [' 7 ', 7000],
    ['Thu, 01 Jan 2026 00:00:30 GMT', 30_000], ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['-5', undefined], ['1.5', undefined], ['soon', undefined], ['99999999999', undefined], ['Thursday soon', undefined],
  ];
  for (const [value, expected] of cases) it(`${value} is ${expected}`, () => assert.equal(parseRetryAfter(value, now), expected));
});

describe('Retrier', () => {
  it('doubles its delays up to a limit, with jitter on top', async () => {
    const calm = recorded(0, 10);
    await assert.rejects(calm.retrier.run(() => Promise.reject(failure(true))));
    assert.deepEqual(calm.delays, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    const wild = recorded(0.5);
    await assert.rejects(wild.retrier.run(() => Promise.reject(failure(true))));
    assert.deepEqual(wild.delays, [375, 750, 1500, 3000]);
  });

  it('stops at the first success, and tells the attempt', async () => {
    const { retrier, delays } = recorded();
    const result = await retrier.run(async (attempt) => {
      if (attempt < 2) throw failure(true);
      return attempt;
    });
    assert.equal(result, 2);
    assert.equal(delays.length, 2);
  });

  it('does not repeat what will not change', async () => {
    const { retrier, delays } = recorded();
    for (const error of [failure(false), new LazypullError('CORRUPT', 'x'), new TypeError('x')]) {
      await assert.rejects(retrier.run(() => Promise.reject(error)), error);
    }
    assert.deepEqual(delays, []);
  });

  it('waits as long as the server asks, unless that is too long', async () => {
    const { retrier, delays } = recorded();
    let first = true;
    await retrier.run(async () => {
      if (first) {
        first = false;
        throw failure(true, 90_000);
      }
    });
    assert.deepEqual(delays, [90_000]);
    await rejectsWith(retrier.run(() => Promise.reject(failure(true, 3_600_000))), 'NETWORK', /asks to wait 3600 s/);
  });

  it('ends with the signal, while waiting too', async () => {
    const controller = new AbortController();
    const retrier = new Retrier({ baseDelayMs: 60_000 });
    const running = retrier.run(() => Promise.reject(failure(true)), controller.signal);
    setImmediate(() => controller.abort());
    await rejectsWith(running, 'CANCELLED');
    await rejectsWith(retrier.run(async () => 1, controller.signal), 'CANCELLED');
  });

  it('knows which statuses pass', () => {
    for (const status of [408, 425, 429, 499, 500, 502, 503, 504, 522]) assert.equal(isRetryableStatus(status), true, String(status));
    for (const status of [200, 301, 400, 401, 403, 404, 409, 416, 501]) assert.equal(isRetryableStatus(status), false, String(status));
  });
});
