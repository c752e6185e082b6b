import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from '../../src/core/digest.ts';
import { ResponseHeaders } from '../../src/oci/http-headers.ts';
import type { WireRequest, WireResponse } from '../../src/oci/http-transport.ts';
import { Redirects, redirectTarget } from '../../src/oci/redirects.ts';

function target(method: WireRequest['method'], status: number, from: string, location: string, hops = 0): string | undefined {
  const response = { status, url: new URL(from), headers: new ResponseHeaders({ location }) } as unknown as WireResponse;
  return redirectTarget({ method }, response, hops)?.href;
}

describe('redirectTarget', () => {
  it('resolves against where the answer came from', () => {
    assert.equal(target('GET', 302, 'https://r.io/v2/a/blobs/x', '/cdn?sig=A+b%2F'), 'https://r.io/cdn?sig=A+b%2F');
    assert.equal(target('HEAD', 303, 'https://r.io/v2/a', '//cdn.io/x'), 'https://cdn.io/x');
    assert.equal(target('GET', 200, 'https://r.io/', '/x'), undefined);
    assert.equal(target('GET', 304, 'https://r.io/', '/x'), undefined);
  });

  it('never leads from https to http, the other way it may', () => {
    assert.throws(() => target('GET', 302, 'https://r.io/a', 'http://r.io/a'), { code: 'NETWORK' });
    assert.throws(() => target('GET', 307, 'https://r.io/a', 'http://localhost/a?sig=hunter2'), (error: Error) => /from https to http/.test(error.message) && !/hunter2/.test(error.message));
    assert.equal(target('GET', 302, 'http://r.io/a', 'https://r.io/a'), 'https://r.io/a');
  });

  it('drops a user name, which would become a header', () => {
    assert.equal(target('GET', 302, 'https://r.io/a', 'https://user:pw@cdn.io/x'), 'https://cdn.io/x');
  });

  it('keeps bodies or refuses', () => {
    for (const status of [307, 308]) assert.equal(target('PUT', status, 'https://r.io/a', '/b'), 'https://r.io/b');
    for (const status of [301, 302, 303]) assert.throws(() => target('POST', status, 'https://r.io/a', '/b'), { code: 'NETWORK' });
  });

  it('ends', () => {
    assert.equal(target('GET', 302, 'https://r.io/a', '/b', 9), 'https://r.io/b');
    assert.throws(() => target('GET', 302, 'https://r.io/a', '/b', 10), { code: 'NETWORK' });
  });
});

describe('Redirects', () => {
  it('remember the newest few hundred', () => {
    const known = new Redirects();
    const blobs = Array.from({ length: 600 }, (_, i) => digestOf(Buffer.from(String(i))));
    for (const blob of blobs) known.remember(blob, new URL(`https://cdn.io/${blob}`));
    assert.equal(known.find(blobs[0] as (typeof blobs)[0]), undefined);
    const last = blobs[599] as (typeof blobs)[0];
    assert.equal(known.find(last)?.pathname, `/${last}`);
    known.forget(last);
    assert.equal(known.find(last), undefined);
  });
});
