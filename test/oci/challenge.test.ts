import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '../../src/oci/challenge.ts';
import { mergeScopes, repositoryScope, splitScopes } from '../../src/oci/scopes.ts';

function flat(...headers: string[]): unknown {
  return parseChallenges(headers).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe('parseChallenges', () => {
  it('reads what registries send', () => {
    assert.deepEqual(flat('Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"'), [
      ['bearer', { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:library/alpine:pull,push' }],
    ]);
    assert.deepEqual(flat('Basic realm="Registry Realm"'), [['basic', { realm: 'Registry Realm' }]]);
  });

  it('tells several challenges in one header apart', () => {
    assert.deepEqual(flat('Negotiate, Basic realm="a, b", charset=UTF-8, BEARER realm="https://x/t" , service=y'), [
      ['negotiate', {}], ['basic', { realm: 'a, b', charset: 'UTF-8' }], ['bearer', { realm: 'https://x/t', service: 'y' }],
    ]);
    assert.deepEqual(flat('Negotiate dG9rZW4=, Bearer realm="r"'), [['negotiate', {}], ['bearer', { realm: 'r' }]]);
    assert.deepEqual(flat('Basic realm="a"', 'Bearer realm="b"'), [['basic', { realm: 'a' }], ['bearer', { realm: 'b' }]]);
  });

  it('undoes quoting, allows space around =, and lets the first of equal names count', () => {
    assert.deepEqual(flat(String.raw`Bearer realm = "a\"b\\c" , SERVICE= "s", service="t"`), [['bearer', { realm: 'a"b\\c', service: 's' }]]);
  });

  it('forgives missing quotes and empty list elements', () => {
    assert.deepEqual(flat(',, Bearer realm=https://auth.example/token?a=b,service=s,,'), [['bearer', { realm: 'https://auth.example/token?a=b', service: 's' }]]);
  });

  it('keeps what it understood of a broken header', () => {
    assert.deepEqual(flat('Bearer realm="r", scope="never closed'), [['bearer', { realm: 'r' }]]);
    assert.deepEqual(flat('realm="orphan"'), []);
    assert.deepEqual(flat('', '"', '=', 'Bearer ='), []);
  });

  it('never fails, whatever comes', () => {
    const piece = fc.constantFrom('Bearer', 'Basic', ' ', ',', '=', '"', '\\', 'realm', 'x', 'https://a', '\t', 'é');
    fc.assert(fc.property(fc.array(piece, { maxLength: 40 }), (parts) => {
      for (const { scheme } of parseChallenges([parts.join('')])) assert.equal(scheme, scheme.toLowerCase());
    }), { numRuns: 2000 });
    parseChallenges([`Bearer ${'a,'.repeat(100_000)}`]);
  });
});

describe('scopes', () => {
  it('merge by resource, in order of first mention', () => {
    assert.deepEqual(mergeScopes(['repository:b:pull'], ['repository:a:push', 'repository:b:push,pull']), ['repository:b:pull,push', 'repository:a:push']);
    assert.deepEqual(mergeScopes(['repository:a:pull,*'], ['repository:a:push']), ['repository:a:*']);
    assert.deepEqual(mergeScopes(['nonsense', 'registry:catalog:*', 'repository:host:5000/a:pull']), ['registry:catalog:*', 'repository:host:5000/a:pull']);
    assert.deepEqual(mergeScopes([], []), []);
  });

  it('are written and split as token services expect', () => {
    assert.equal(repositoryScope('a/b', 'push', 'pull'), 'repository:a/b:pull,push');
    assert.deepEqual(splitScopes(' repository:a:pull  repository:b:pull '), ['repository:a:pull', 'repository:b:pull']);
    assert.deepEqual(splitScopes(undefined), []);
  });
});
