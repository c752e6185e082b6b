import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import type { Descriptor, Platform } from '../../src/core/types.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { formatPlatform, hostPlatform, isAttestation, matchPlatform, normalizePlatform, parsePlatform, selectPlatform } from '../../src/oci/platform.ts';

const entry = (platform: string | Platform | undefined, annotations?: Record<string, string>): Descriptor => ({
  mediaType: OCI.manifest,
  digest: digestOf(Buffer.from(JSON.stringify([platform, annotations]) ?? '')),
  size: 1,
  ...(platform !== undefined && { platform: typeof platform === 'string' ? parsePlatform(platform) : platform }),
  ...(annotations && { annotations }),
});
const pick = (wanted: string, ...entries: readonly (string | Platform)[]): number | undefined => {
  const manifests = entries.map((platform) => entry(platform));
  const found = selectPlatform(manifests, parsePlatform(wanted));
  return found && manifests.indexOf(found);
};

describe('platform text', () => {
  it('is read in all its forms', () => {
    const cases: readonly [string, Platform][] = [
      ['linux/amd64', { os: 'linux', architecture: 'amd64' }],
      ['linux/arm/v7', { os: 'linux', architecture: 'arm', variant: 'v7' }],
      ['linux/arm', { os: 'linux', architecture: 'arm', variant: 'v7' }],
      ['linux/arm/6', { os: 'linux', architecture: 'arm', variant: 'v6' }],
      ['windows(10.0.20348)/amd64', { os: 'windows', architecture: 'amd64', 'os.version': '10.0.20348' }],
      ['linux(+erofs)/amd64', { os: 'linux', architecture: 'amd64', 'os.features': ['erofs'] }],
      ['linux(6.1+b+a)/arm64/v9', { os: 'linux', architecture: 'arm64', variant: 'v9', 'os.version': '6.1', 'os.features': ['a', 'b'] }],
      ['Linux/X86_64', { os: 'linux', architecture: 'amd64' }],
      ['linux/aarch64', { os: 'linux', architecture: 'arm64' }],
      ['linux/arm64/v8', { os: 'linux', architecture: 'arm64' }],
      ['linux/amd64/v1', { os: 'linux', architecture: 'amd64' }],
      ['linux/armhf', { os: 'linux', architecture: 'arm', variant: 'v7' }],
      ['linux/armel', { os: 'linux', architecture: 'arm', variant: 'v6' }],
      ['linux/i686', { os: 'linux', architecture: '386' }],
      ['arm64', { os: 'linux', architecture: 'arm64' }],
      ['x86_64', { os: 'linux', architecture: 'amd64' }],
      ['macos/arm64', { os: 'darwin', architecture: 'arm64' }],
    ];
    for (const [text, platform] of cases) assert.deepEqual(parsePlatform(text), platform, text);
  });

  it('is refused when it is none', () => {
    for (const text of ['', 'linux', 'linux/', '/amd64', 'linux/amd64/v1/x', 'linux/amd64,linux/arm64', 'linux(/amd64', 'linux/a b', 'li\nnux/amd64', 'all']) {
      assert.throws(() => parsePlatform(text), { name: 'LazypullError', code: 'USAGE' }, text);
    }
  });

  it('comes back from what it was written as', () => {
    const word = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
    const platforms = fc.record({ os: word, architecture: word, variant: word, 'os.version': fc.stringMatching(/^[0-9.]{1,9}$/), 'os.features': fc.array(word, { minLength: 1, maxLength: 3 }) }, { requiredKeys: ['os', 'architecture'] });
    fc.assert(fc.property(platforms, (platform) => {
      const normal = normalizePlatform(platform);
      assert.deepEqual(parsePlatform(formatPlatform(normal)), normal);
      assert.deepEqual(normalizePlatform(normal), normal);
    }));
  });

  it('never shows control characters', () => {
    assert.equal(formatPlatform({ os: 'li\u001bnux', architecture: 'amd64' }), 'li\\x1bnux/amd64');
  });

  it('has a form for this machine', () => {
    const host = hostPlatform();
    assert.deepEqual(parsePlatform(formatPlatform(host)), host);
    if (process.arch === 'x64' && process.platform === 'linux') assert.equal(formatPlatform(host), 'linux/amd64');
  });
});

describe('platform choice', () => {
  it('takes the exact one, wherever it stands', () => {
    assert.equal(pick('linux/arm64', 'linux/amd64', 'linux/arm/v7', 'linux/arm64'), 2);
    assert.equal(pick('linux/arm/v6', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7'), 1);
    assert.equal(pick('linux/s390x', 'linux/amd64'), undefined);
    assert.equal(pick('windows/amd64', 'linux/amd64'), undefined);
  });

  it('takes the best of the variants that the processor runs, never a newer one', () => {
    assert.equal(pick('linux/arm/v8', 'linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'), 1);
    assert.equal(pick('linux/arm/v6', 'linux/arm/v7'), undefined);
    assert.equal(pick('linux/amd64/v3', 'linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4'), 1);
    assert.equal(pick('linux/amd64', 'linux/amd64/v2'), undefined);
    assert.equal(pick('linux/arm64', 'linux/arm64/v9'), undefined);
    assert.equal(pick('linux/arm64/v9.1', 'linux/arm64/v8', 'linux/arm64/v9', 'linux/arm64/v9.2'), 1);
    assert.equal(pick('linux/arm64', 'linux/arm/v6', 'linux/arm/v7', 'linux/amd64'), 1);
    assert.equal(pick('linux/mips64le/x', 'linux/mips64le/y'), undefined);
  });

  it('takes the first among equals', () => {
    assert.equal(pick('linux/amd64', 'linux/amd64', { os: 'linux', architecture: 'x86_64' }), 0);
    assert.equal(pick('linux/arm64/v8', { os: 'linux', architecture: 'arm64' }, 'linux/arm64/v8'), 0);
  });

  it('wants the right build of Windows, if one is asked for', () => {
    const entries = ['windows(10.0.17763.1)/amd64', 'windows(10.0.20348.1726)/amd64'] as const;
    assert.equal(pick('windows(10.0.20348.999)/amd64', ...entries), 1);
    assert.equal(pick('windows/amd64', ...entries), 0);
    assert.equal(pick('windows(10.0.1)/amd64', ...entries), undefined);
    assert.equal(pick('linux(6.1)/amd64', 'linux(5.10)/amd64'), 0);
  });

  it('wants no feature that the client did not claim, and uses what it did', () => {
    assert.equal(pick('linux/amd64', 'linux(+erofs)/amd64', 'linux/amd64'), 1);
    assert.equal(pick('linux(+erofs)/amd64', 'linux/amd64', 'linux(+erofs)/amd64'), 1);
    assert.equal(pick('linux(+erofs+x)/amd64', 'linux(+erofs)/amd64'), 0);
    assert.equal(pick('linux(+erofs)/amd64/v2', 'linux(+erofs)/amd64', 'linux/amd64/v2'), 1);
  });

  it('never takes an attestation, nor an entry without platform', () => {
    const attestation = entry({ os: 'unknown', architecture: 'unknown' }, { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': digestOf() });
    assert.equal(isAttestation(attestation), true);
    assert.equal(isAttestation(entry('linux/amd64')), false);
    const disguised = { ...attestation, platform: { os: 'linux', architecture: 'amd64' } };
    assert.equal(selectPlatform([attestation, disguised, entry(undefined)], parsePlatform('linux/amd64')), undefined);
    assert.equal(selectPlatform([attestation], { os: 'unknown', architecture: 'unknown' }), undefined);
    assert.equal(selectPlatform([], parsePlatform('linux/amd64')), undefined);
  });

  it('survives whatever an index says', () => {
    const odd = fc.record({ os: fc.string(), architecture: fc.string(), variant: fc.string(), 'os.version': fc.string(), 'os.features': fc.array(fc.string()) }, { requiredKeys: ['os', 'architecture'] });
    fc.assert(fc.property(odd, (platform) => {
      matchPlatform(parsePlatform('linux/arm64'), platform);
      // Everything runs what it is itself.
      assert.equal(matchPlatform(platform, platform), 0);
    }));
  });
});
