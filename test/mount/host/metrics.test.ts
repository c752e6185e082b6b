import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { serveMetrics } from '../../../src/mount/host/metrics-server.ts';
import { metricsText } from '../../../src/mount/host/metrics.ts';
import { ReadTimes } from '../../../src/mount/host/slow-reads.ts';

const reads = new ReadTimes();
for (const seconds of [0.001, 0.02, 0.02, 40]) reads.add(seconds);

const text = metricsText({
  image: 'oci:/a "b"\\c:1', digest: 'sha256:aa', dir: '/mnt', backend: 'fuse', version: '1.2.3', mountedAt: 1500, restarts: 2,
  content: {
    layers: [{ layer: 0, digest: 'sha256:bb', format: 'soci', requests: 3, fetchedBytes: 300, requestsBy: { demand: 1, ahead: 0, prefetch: 2, background: 0 }, misses: 4, errors: 1, refetched: 0, localBytes: 10, bytes: 20 }],
    complete: false, answers: { local: 1, shared: 2, fetched: 3 }, slowest: 10,
  },
  indexedBytes: 77,
  fuse: { requests: { lookup: 5, read: 6 }, localReads: 7, localBytes: 8, misses: 9, missBytes: 10, pending: 1, errors: 2, interrupted: 3 },
  reads, residentBytes: 1000, cpuSeconds: 0.25,
});

describe('metrics', () => {
  it('are in the text format: help and type once per name, samples with quoted labels', () => {
    const seen = new Set<string>();
    let family = '';
    for (const line of text.trimEnd().split('\n')) {
      const [, keyword, name = ''] = /^# (HELP|TYPE) ([a-z_]+) .+$/.exec(line) ?? [];
      if (keyword === 'HELP') {
        assert.ok(!seen.has(name), name);
        seen.add(name);
        family = name;
      } else if (keyword === 'TYPE') {
        assert.equal(name, family);
      } else {
        assert.match(line, /^[a-z_]+(?:\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="(?:[^"\\]|\\.)*")*\})? [0-9.+e-]+$/);
        assert.ok(line.startsWith(family), line);
      }
    }
    assert.ok(text.includes('lazypull_mount_info{image="oci:/a \\"b\\"\\\\c:1",digest="sha256:aa",dir="/mnt",backend="fuse",version="1.2.3"} 1\n'));
    assert.ok(text.includes('lazypull_fetch_requests_total{layer="0",digest="sha256:bb",for="prefetch"} 2\n'));
  });

  it('count times in buckets that hold the smaller ones', () => {
    assert.ok(text.includes('lazypull_miss_seconds_bucket{le="0.005"} 1\n'));
    assert.ok(text.includes('lazypull_miss_seconds_bucket{le="0.025"} 3\n'));
    assert.ok(text.includes('lazypull_miss_seconds_bucket{le="30"} 3\n'));
    assert.ok(text.includes('lazypull_miss_seconds_bucket{le="+Inf"} 4\n'));
    assert.ok(text.includes('lazypull_miss_seconds_count 4\n'));
  });

  it('are served over HTTP', async () => {
    const server = await serveMetrics('127.0.0.1:0', () => 'a 1\n');
    try {
      assert.match(server.url, /^http:\/\/127\.0\.0\.1:[1-9]\d*\/metrics$/);
      const got = await fetch(server.url);
      assert.deepEqual([got.status, await got.text(), got.headers.get('content-type')], [200, 'a 1\n', 'text/plain; version=0.0.4; charset=utf-8']);
      assert.equal((await fetch(server.url.replace('metrics', 'other'))).status, 404);
      assert.equal((await fetch(server.url, { method: 'POST' })).status, 405);
      await assert.rejects(serveMetrics(server.address, () => ''), { code: 'IO' });
      await assert.rejects(serveMetrics('nonsense:port', () => ''), { code: 'USAGE' });
    } finally {
      await server.close();
    }
  });
});
