import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { answerError, explain, HttpError, redact, safeUrl } from '../../src/oci/http-error.ts';
import { ResponseHeaders } from '../../src/oci/http-headers.ts';

const url = new URL('https://user:pw@r.io/v2/a/blobs/uploads/1?_state=hunter2&X-Amz-Signature=hunter2');

function error(status: number, body: string, headers: Record<string, string> = {}, secrets: string[] = []): HttpError {
  return answerError({ method: 'GET', url }, { status, headers: new ResponseHeaders(headers), body: Buffer.from(body) }, secrets);
}

describe('answerError', () => {
  it('names method, status, reasons and a URL without secrets', () => {
    const made = error(404, JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message: 'manifest unknown', detail: { Tag: 'v1' } }, { code: 'X' }] }));
    assert.equal(made.message, 'GET answered 404: MANIFEST_UNKNOWN: manifest unknown ({"Tag":"v1"}); X (https://r.io/v2/a/blobs/uploads/1)');
    assert.deepEqual(made.reasons, ['MANIFEST_UNKNOWN', 'X']);
    assert.equal(made.status, 404);
  });

  const codes: readonly (readonly [number, string, string])[] = [
    [401, '', 'UNAUTHORIZED'], [403, '', 'UNAUTHORIZED'], [404, '', 'NOT_FOUND'], [413, '', 'LIMIT'], [405, '', 'UNSUPPORTED'], [501, '', 'UNSUPPORTED'],
    [400, 'DIGEST_INVALID', 'DIGEST_MISMATCH'], [400, 'SIZE_INVALID', 'SIZE_MISMATCH'], [400, 'UNSUPPORTED', 'UNSUPPORTED'], [400, 'NAME_INVALID', 'NETWORK'],
    [429, '', 'NETWORK'], [500, '', 'NETWORK'],
  ];
  for (const [status, reason, code] of codes) {
    it(`${status} ${reason} is ${code}`, () => assert.equal(error(status, JSON.stringify({ errors: reason ? [{ code: reason }] : [] })).code, code));
  }

  it('says whether and when to come back', () => {
    const made = error(429, '', { 'retry-after': '3', 'ratelimit-limit': '100;w=21600' });
    assert.equal(made.retryable, true);
    assert.equal(made.retryAfterMs, 3000);
    assert.match(made.message, /limit 100;w=21600/);
    assert.equal(error(400, '').retryable, false);
  });

  it('quotes what is not in the form of the spec, in part and without control characters', () => {
    assert.match(error(502, `bad\u001b[31m${'x'.repeat(500)}`).message, /^GET answered 502: bad\\x1b\[31mx{190,}…/);
    assert.match(error(403, '{"message":"no"}').message, /answered 403: no \(/);
    assert.match(error(400, '{"error":"invalid_request","error_description":"why"}').message, /invalid_request: why/);
    assert.match(error(503, '<html><body>long page</body></html>', { 'content-type': 'text/html' }).message, /503: an HTML page/);
    assert.match(error(500, '').message, /^GET answered 500 \(/);
    for (const odd of ['null', '[]', '"x"', '{"errors":null}', '{"errors":[1,null,{"code":5}]}']) assert.ok(error(400, odd) instanceof HttpError);
  });

  it('shows no secret that a server repeats', () => {
    assert.doesNotMatch(error(401, 'your token hunter2 is bad', {}, ['hunter2']).message, /hunter2/);
    assert.equal(redact('ab abcd', ['ab', 'abcd', '']), 'ab ***');
    assert.equal(safeUrl(url), 'https://r.io/v2/a/blobs/uploads/1');
  });

  it('can be explained without losing what it knows', () => {
    const made = explain(error(503, 'busy', { 'retry-after': '2' }), 'cannot do it');
    assert.equal(made.message, 'cannot do it: GET answered 503: busy (https://r.io/v2/a/blobs/uploads/1)');
    assert.equal(made.retryable, true);
    assert.equal(made.retryAfterMs, 2000);
    const other = new TypeError('x');
    assert.equal(explain(other, 'y'), other);
  });
});
