import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { errorFields, Log } from '../../../src/mount/host/log.ts';
import { ReadTimes, wasLogged, watchReads } from '../../../src/mount/host/slow-reads.ts';

const folder = mkdtempSync(join(tmpdir(), 'lazypull-log-'));
after(() => rmSync(folder, { recursive: true }));

function lines(path: string): Record<string, unknown>[] {
  return readFileSync(path, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('log', () => {
  it('has one object per line, from several processes at once', () => {
    const path = join(folder, 'log');
    const logs = [new Log(path, 'daemon'), new Log(path, 'supervisor')];
    for (let i = 0; i < 10; i += 1) logs[i % 2]?.warning('event', { i, text: 'a\nb' });
    for (const log of logs) log.close();
    assert.deepEqual(lines(path).map(({ role, i, text, level }) => [role, i, text, level]), Array.from({ length: 10 }, (_, i) => [i % 2 ? 'supervisor' : 'daemon', i, 'a\nb', 'warning']));
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('does not grow without bound, and does not fail when it cannot be written', () => {
    const path = join(folder, 'large');
    const log = new Log(path, 'daemon');
    const text = 'x'.repeat(1 << 20);
    for (let i = 0; i < 40; i += 1) log.info('much', { text });
    log.close();
    assert.ok(statSync(path).size + statSync(`${path}.1`).size < 36 << 20);
    new Log(join(folder, 'no', 'such', 'folder'), 'daemon').error('lost');
    new Log(9999, 'daemon').error('lost');
  });

  it('tells an error without control characters', () => {
    assert.deepEqual(errorFields(new LazypullError('NETWORK', 'bad\u001b[2J')), { code: 'NETWORK', error: 'bad\\x1b[2J' });
    assert.equal(errorFields(new Error('x'))['code'], 'INTERNAL');
  });
});

describe('reads that had to wait', () => {
  it('leave a line with path and layer when they fail, and are counted', async () => {
    const path = join(folder, 'reads');
    const log = new Log(path, 'daemon');
    const times = new ReadTimes();
    const failure = new LazypullError('NETWORK', 'registry is down');
    let fail = false;
    const read = watchReads(
      {
        read: async ({ length }, signal) => {
          if (signal?.aborted) throw new LazypullError('CANCELLED', 'cancelled');
          if (fail) throw failure;
          return Buffer.alloc(length);
        },
        locate: async () => ({ layer: 'layer 2 (sha256:aa)', path: '/usr/lib/x', offset: 4096 }),
      },
      times,
      log,
    );
    assert.equal((await read({ device: 0, address: 0, length: 8 })).length, 8);
    await assert.rejects(read({ device: 0, address: 0, length: 8 }, AbortSignal.abort()), { code: 'CANCELLED' });
    assert.equal(times.failed, 0);
    fail = true;
    await assert.rejects(read({ device: 1, address: 4096, length: 8 }), failure);
    await new Promise(setImmediate);
    log.close();
    assert.equal(wasLogged(failure), true);
    assert.deepEqual([times.failed, times.counts.reduce((a, b) => a + b)], [1, 1]);
    const [line, ...rest] = lines(path);
    assert.deepEqual(rest, []);
    assert.deepEqual([line?.['event'], line?.['path'], line?.['layer'], line?.['offset'], line?.['code'], line?.['bytes']], ['failed-read', '/usr/lib/x', 'layer 2 (sha256:aa)', 4096, 'NETWORK', 8]);
  });
});
