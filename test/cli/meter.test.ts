import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Meter, showConversion } from '../../src/cli/meter.ts';

describe('meter', () => {
  it('says what is done, how fast, and what is left', () => {
    let now = 0;
    const meter = new Meter('converting', 'layer', () => now);
    meter.total(3, 60_000_000);
    assert.equal(meter.text(), 'converting 0/3 layers  0 B of 60.0 MB');
    for (now = 0; now < 2000; now += 100) meter.advance(1_000_000);
    now = 2000;
    meter.itemDone();
    assert.equal(meter.rate(), 10_000_000 - 500_000 + 500_000 * 1);
    assert.equal(meter.text(), 'converting 1/3 layers  20.0 MB of 60.0 MB  10.0 MB/s  4.0 s left');
  });

  it('follows the last seconds instead of the whole run', () => {
    let now = 0;
    const meter = new Meter('copying', 'blob', () => now);
    meter.total(1, 1e9);
    for (; now < 10_000; now += 100) meter.advance(1000);
    for (; now < 20_000; now += 100) meter.advance(1_000_000);
    const rate = meter.rate() as number;
    assert.ok(rate > 9_000_000 && rate < 11_000_000, `${rate}`);
  });

  it('never claims more than everything, and stops guessing at the end', () => {
    let now = 0;
    const meter = new Meter('copying', 'blob', () => now);
    meter.total(1, 1000);
    now = 1000;
    meter.itemDone(1500);
    assert.equal(meter.text(), 'copying 1/1 blob  1.0 kB of 1.0 kB  1.5 kB/s');
  });

  it('counts a layer once, whether its bytes were worked on or only carried', () => {
    const meter = new Meter('converting', 'layer', () => 0);
    const show = showConversion(meter);
    show({ type: 'total', layers: 2, bytes: 2000 });
    show({ type: 'layer', digest: `sha256:${'0'.repeat(64)}`, phase: 'start', size: 1000 });
    show({ type: 'bytes', packed: 1000, tar: 0 });
    show({ type: 'layer', digest: `sha256:${'0'.repeat(64)}`, phase: 'reused', size: 1000 });
    assert.equal(meter.text(), 'converting 1/2 layers  1.0 kB of 2.0 kB');
  });

  it('says only what it does before the work is known', () => {
    assert.equal(new Meter('copying', 'blob', () => 0).text(), 'copying');
  });

  it('does without a total of bytes', () => {
    const meter = new Meter('verifying', 'layer', () => 0);
    meter.total(2, 0);
    meter.advance(5);
    assert.equal(meter.text(), 'verifying 0/2 layers  5 B');
  });
});
