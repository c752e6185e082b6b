import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nextLink, parseContentRange, parseCount, parseUploadRange, ResponseHeaders, warningTexts } from '../../src/oci/http-headers.ts';

describe('response headers', () => {
  it('are read whatever their case and number', () => {
    const headers = new ResponseHeaders({ 'Content-Type': 'Application/Json; charset=utf-8', 'content-length': '12', 'www-authenticate': ['a', 'b'], none: undefined });
    assert.equal(headers.mediaType, 'application/json');
    assert.equal(headers.contentLength, 12);
    assert.deepEqual(headers.all('www-authenticate'), ['a', 'b']);
    assert.equal(headers.get('none'), undefined);
    assert.deepEqual(headers.all('absent'), []);
  });

  it('have counts only if these are exact', () => {
    for (const [text, value] of [['0', 0], ['9007199254740991', 9007199254740991], ['9007199254740992', undefined], ['-1', undefined], ['1e3', undefined], ['', undefined], ['12 ', undefined]] as const) {
      assert.equal(parseCount(text), value, text);
    }
  });

  const ranges: readonly (readonly [string | undefined, unknown])[] = [
    ['bytes 0-9/100', { start: 0, end: 10, total: 100 }],
    ['bytes 5-5/*', { start: 5, end: 6, total: undefined }],
    ['BYTES 0-0/1', { start: 0, end: 1, total: 1 }],
    ['bytes 9-0/100', undefined], ['bytes 0-100/100', undefined], ['bytes */100', undefined], ['0-9/100', undefined],
    ['bytes 0-9', undefined], ['bytes 0-99999999999999999999/*', undefined], [undefined, undefined],
  ];
  for (const [text, expected] of ranges) it(`Content-Range ${text}`, () => assert.deepEqual(parseContentRange(text), expected));

  for (const [text, expected] of [['0-0', 1], ['0-99', 100], ['bytes=0-9', 10], ['bytes 0-9', 10], ['5-9', undefined], ['', undefined], [undefined, undefined]] as const) {
    it(`upload Range ${text}`, () => assert.equal(parseUploadRange(text), expected));
  }

  it('link to the next page, on the same host only', () => {
    const page = new URL('https://r.io/v2/a/tags/list?n=2');
    const next = (link: string | string[]): string | undefined => nextLink(new ResponseHeaders({ link }), page)?.href;
    assert.equal(next('</v2/a/tags/list?last=b&n=2>; rel="next"'), 'https://r.io/v2/a/tags/list?last=b&n=2');
    assert.equal(next('<?n=2&last=x>;rel=next'), 'https://r.io/v2/a/tags/list?n=2&last=x');
    assert.equal(next('</prev>; rel="prev", </next?a=1,2>; title="x"; rel="next"'), 'https://r.io/next?a=1,2');
    assert.equal(next(['</prev>; rel=prev', '</n>; rel=next']), 'https://r.io/n');
    assert.equal(next('http://r.io/x; rel=next'), undefined);
    assert.equal(next('</x>; rel="nextish"'), undefined);
    assert.equal(next('<http://r.io/v2/x>; rel="next"'), 'https://r.io/v2/x');
    assert.throws(() => next('<https://evil.io/v2/x>; rel="next"'), { code: 'CORRUPT' });
  });

  it('warn', () => {
    const texts = (warning: string | string[]): string[] => warningTexts(new ResponseHeaders({ warning }));
    assert.deepEqual(texts('299 - "moving house, \\"soon\\"", 299 - "again"'), ['moving house, "soon"', 'again']);
    assert.deepEqual(texts(['299 - "a"', '110 - "stale"', '299 - b']), ['a']);
  });
});
