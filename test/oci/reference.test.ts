import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { checkRepository, formatReference, isLoopbackHost, parseReference, referenceTarget, registryHost } from '../../src/oci/reference.ts';

const HEX = 'a'.repeat(64);
const DIGEST = `sha256:${HEX}`;

describe('parseReference', () => {
  const good: readonly (readonly [string, string])[] = [
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['docker://alpine', 'docker.io/library/alpine:latest'],
    ['user/app', 'docker.io/user/app:latest'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest'],
    ['index.docker.io/alpine:1', 'docker.io/library/alpine:1'],
    ['docker.io/user/app', 'docker.io/user/app:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000/app:latest'],
    ['host:5000/app:1', 'host:5000/app:1'],
    ['127.0.0.1:5000/a/b/c:x_.-Y', '127.0.0.1:5000/a/b/c:x_.-Y'],
    ['[::1]:5000/app', '[::1]:5000/app:latest'],
    ['[2001:db8::1]/app', '[2001:db8::1]/app:latest'],
    ['ghcr.io/o/r@' + DIGEST, `ghcr.io/o/r@${DIGEST}`],
    ['ghcr.io/o/r:v1@' + DIGEST, `ghcr.io/o/r:v1@${DIGEST}`],
    [`ghcr.io/o/r@sha512:${'0'.repeat(128)}`, `ghcr.io/o/r@sha512:${'0'.repeat(128)}`],
    ['UPPER/app', 'UPPER/app:latest'],
    ['a.b/c__d/e---f/g.h_i', 'a.b/c__d/e---f/g.h_i:latest'],
    ['foo/bar.baz', 'docker.io/foo/bar.baz:latest'],
    [`r.io/app:${'t'.repeat(128)}`, `r.io/app:${'t'.repeat(128)}`],
    ['a'.repeat(63), `docker.io/library/${'a'.repeat(63)}:latest`],
  ];
  for (const [text, canonical] of good) {
    it(`takes ${text.slice(0, 60)}`, () => {
      const reference = parseReference(text);
      assert.equal(formatReference(reference), canonical);
      assert.deepEqual(parseReference(canonical), reference);
    });
  }

  const bad: readonly (readonly [string, RegExp])[] = [
    ['', /it is empty/],
    ['docker://', /it is empty/],
    [HEX, /image ID/],
    ['https://ghcr.io/app', /only docker:\/\//],
    ['ghcr.io/App', /must be lowercase/],
    ['App', /must be lowercase/],
    ['ghcr.io/', /names no repository/],
    ['ghcr.io/a//b', /must consist of/],
    ['ghcr.io/-a', /must consist of/],
    ['ghcr.io/a_-b', /must consist of/],
    ['ghcr.io/a___b', /must consist of/],
    ['a/b/', /must consist of/],
    ['app:', /the tag "" must/],
    ['app:.x', /the tag "\.x" must/],
    [`app:${'t'.repeat(129)}`, /the tag/],
    ['app:a b', /the tag "a b"/],
    ['app@sha256:abc', /is not a digest/],
    [`app@sha256:${'A'.repeat(64)}`, /is not a digest/],
    [`app@md5:${'a'.repeat(32)}`, /is not a digest/],
    ['app@', /is not a digest/],
    ['host:99999/app', /99999 is not a port/],
    ['host:0/app', /0 is not a port/],
    ['ho_st.x/app', /is not a host name/],
    ['-host.x/app', /is not a host name/],
    ['[::1/app', /is not a host name/],
    [`r.io/${'a/'.repeat(150)}a`, /longer than 255/],
    ['x'.repeat(2000), /2000 characters/],
    ['a\u001b[31m.x/app', /\\x1b/],
  ];
  for (const [text, reason] of bad) {
    it(`refuses ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.throws(() => parseReference(text), (error: unknown) => error instanceof LazypullError && error.code === 'USAGE' && reason.test(error.message));
    });
  }

  it('gives any text a reference that reads back, or USAGE', () => {
    const piece = fc.constantFrom('a', 'B', '0', '.', '_', '__', '-', '/', ':', '@', 'sha256:', HEX, 'localhost', 'docker.io', '[::1]', ' ', 'é', '\u0000');
    fc.assert(fc.property(fc.oneof(fc.string(), fc.array(piece, { maxLength: 12 }).map((parts) => parts.join(''))), (text) => {
      try {
        const reference = parseReference(text);
        assert.deepEqual(parseReference(formatReference(reference)), reference);
        assert.deepEqual(checkRepository(reference), { domain: reference.domain, path: reference.path });
      } catch (error) {
        assert.ok(error instanceof LazypullError && error.code === 'USAGE', String(error));
      }
    }), { numRuns: 2000 });
  });
});

describe('references', () => {
  it('are asked for by digest when they have one', () => {
    assert.equal(referenceTarget(parseReference(`a:1@${DIGEST}`)), DIGEST);
    assert.equal(referenceTarget(parseReference('a:1')), '1');
  });

  it('of Docker Hub are served by another host', () => {
    assert.equal(registryHost('docker.io'), 'registry-1.docker.io');
    assert.equal(registryHost('ghcr.io'), 'ghcr.io');
  });

  it('know this machine by name', () => {
    for (const host of ['localhost', 'localhost:5000', 'LOCALHOST', 'a.localhost', '127.0.0.1', '127.1.2.3:80', '[::1]', '[::1]:5000']) assert.equal(isLoopbackHost(host), true, host);
    for (const host of ['localhost.example.com', '128.0.0.1', '127.evil.com', '[::2]', 'mylocalhost']) assert.equal(isLoopbackHost(host), false, host);
  });
});
