import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { digestAlgorithm, Digester, digestHex, digestOf, isDigest, parseDigest, verified, type Digest } from '../../src/core/digest.ts';
import { LazypullError } from '../../src/core/errors.ts';
import { collect, streamOf } from '../../src/core/stream.ts';

const text = Buffer.from('lazy');
const is = (code: string, words = /./) => (error: unknown) => error instanceof LazypullError && error.code === code && words.test(error.message);

test('digests are sha256 or sha512 in lower case, and nothing else becomes a path', () => {
  assert.ok(isDigest(digestOf(text)) && isDigest(`sha512:${'0'.repeat(128)}`));
  for (const bad of ['', 'sha256:', `sha256:${'A'.repeat(64)}`, `sha256:${'0'.repeat(63)}`, `sha512:${'0'.repeat(64)}`, `md5:${'0'.repeat(32)}`, `sha256:../${'0'.repeat(61)}`, `sha256:${'0'.repeat(64)}\n`, 7, undefined]) {
    assert.ok(!isDigest(bad), String(bad));
    assert.throws(() => parseDigest(bad, 'layer digest'), is('CORRUPT', /layer digest/));
  }
  assert.deepEqual([digestAlgorithm(`sha512:${'0'.repeat(128)}`), digestHex(digestOf(text)).length], ['sha512', 64]);
});

test('a digester counts and hashes', () => {
  const digester = new Digester();
  digester.update(text.subarray(0, 2));
  digester.update(text.subarray(2));
  assert.deepEqual([digester.size, digester.finish()], [4, digestOf(text)]);
});

test('a copy of a digester goes its own way', () => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const digester = new Digester(algorithm);
    digester.update(text.subarray(0, 2));
    const copy = digester.copy();
    digester.update(text.subarray(2));
    copy.update(text);
    assert.equal(copy.size, 6);
    assert.equal(digester.finish(), `${algorithm}:${createHash(algorithm).update(text).digest('hex')}`);
    assert.equal(copy.finish(), `${algorithm}:${createHash(algorithm).update(text.subarray(0, 2)).update(text).digest('hex')}`);
  }
});

test('too short, too long and wrong are three errors', async () => {
  const expected = { digest: digestOf(text), size: text.length };
  assert.deepEqual(Buffer.from(await collect(verified(streamOf(text.subarray(0, 1), text.subarray(1)), expected, 'blob'), 100)), text);
  const read = (bytes: Uint8Array, size: number | undefined = text.length): Promise<Uint8Array> => collect(verified(streamOf(bytes), { digest: expected.digest, ...(size !== undefined && { size }) }, 'blob'), 100);
  await assert.rejects(read(Buffer.from('laz')), is('SIZE_MISMATCH', /ends early/));
  await assert.rejects(read(Buffer.from('lazy!')), is('SIZE_MISMATCH', /longer/));
  await assert.rejects(read(Buffer.from('busy')), is('DIGEST_MISMATCH', /blob/));
  const sha512: Digest = `sha512:${createHash('sha512').update(text).digest('hex')}`;
  await collect(verified(streamOf(text), { digest: sha512 }, 'blob'), 100);
});

test('surplus bytes are not passed on', async () => {
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const bytes of verified(streamOf(text, Buffer.from('more')), { digest: digestOf(text), size: 4 }, 'blob')) seen.push(bytes.length);
  });
  assert.deepEqual(seen, [4]);
});
