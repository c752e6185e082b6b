import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { count, formatSeconds, formatSize, parseSize, shortDigest } from '../../src/cli/units.ts';

describe('units', () => {
  it('reads sizes with binary and decimal suffixes', () => {
    const sizes: [string, number][] = [
      ['0', 0], ['4096', 4096], ['12b', 12], ['64K', 65536], ['64KiB', 65536], ['64kB', 64000], ['500M', 500 * 1024 ** 2],
      ['10G', 10 * 1024 ** 3], ['10GB', 10e9], ['1.5g', 1.5 * 1024 ** 3], ['2 TiB', 2 * 1024 ** 4], [' 7 ', 7],
    ];
    for (const [text, size] of sizes) assert.equal(parseSize(text), size, text);
  });

  it('refuses what is not a size', () => {
    for (const text of ['', 'G', '-1', '1e3', '1X', '1 000', '0x10', 'NaN', '9007199254740992', '99999999T', '1.2.3M']) {
      assert.throws(() => parseSize(text), { code: 'USAGE' }, text);
    }
  });

  it('prints sizes in powers of 1000, three digits or four', () => {
    const sizes: [number, string][] = [
      [0, '0 B'], [999, '999 B'], [1000, '1.0 kB'], [31_449_000, '31.4 MB'], [999_949_999, '999.9 MB'], [999_950_000, '1.0 GB'], [1.39e9, '1.4 GB'], [5e15, '5.0 PB'], [5e18, '5000.0 PB'],
    ];
    for (const [bytes, text] of sizes) assert.equal(formatSize(bytes), text);
  });

  it('prints durations', () => {
    const times: [number, string][] = [[0, '0.0 s'], [12.34, '12.3 s'], [59.94, '59.9 s'], [59.96, '1:00'], [247, '4:07'], [3723, '1:02:03']];
    for (const [seconds, text] of times) assert.equal(formatSeconds(seconds), text);
  });

  it('counts and shortens', () => {
    assert.equal(count(1, 'layer'), '1 layer');
    assert.equal(count(1204, 'file'), '1,204 files');
    assert.equal(shortDigest(`sha256:${'0123456789abcdef'.repeat(4)}`), 'sha256:0123456789ab');
  });
});
