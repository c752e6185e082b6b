import type { ContentStats } from '../data/types.ts';
import type { FuseStats } from '../fuse/counters.ts';
import { BUCKETS, type ReadTimes } from './slow-reads.ts';

/** What a daemon tells of itself. */
export interface Measured {
  readonly image: string;
  readonly digest: string;
  readonly dir: string;
  readonly backend: string;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly mountedAt: number;
  readonly restarts: number;
  readonly content: ContentStats;
  /** Bytes of layers that were fetched to index the image. */
  readonly indexedBytes: number;
  readonly fuse: FuseStats;
  readonly reads: ReadTimes;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
}

type Labels = Readonly<Record<string, string | number>>;
type Sample = readonly [value: number, labels?: Labels, suffix?: string];

/** Prometheus' text format (version 0.0.4). Counters begin anew when a daemon takes over. */
export function metricsText(measured: Measured): string {
  const { content, fuse, reads } = measured;
  const lines: string[] = [];
  const family = (name: string, type: 'counter' | 'gauge' | 'histogram', help: string, samples: readonly Sample[]): void => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [value, labels = {}, suffix = ''] of samples) lines.push(`${name}${suffix}${labelText(labels)} ${value}`);
  };
  const layers = content.layers.map((layer) => ({ layer, labels: { layer: layer.layer, digest: layer.digest } }));
  const { image, digest, dir, backend, version } = measured;
  family('lazypull_mount_info', 'gauge', 'What is mounted.', [[1, { image, digest, dir, backend, version }]]);
  family('lazypull_mount_start_time_seconds', 'gauge', 'When it was mounted.', [[measured.mountedAt / 1000]]);
  family('lazypull_daemon_restarts_total', 'counter', 'Daemons that have followed the first one.', [[measured.restarts]]);
  family('lazypull_complete', 'gauge', 'Whether everything the mount shows is local.', [[content.complete ? 1 : 0]]);
  family('lazypull_content_bytes', 'gauge', 'Bytes of content that the mount shows, by layer.', layers.map(({ layer, labels }) => [layer.bytes, labels]));
  family('lazypull_local_bytes', 'gauge', 'Those of them that are local.', layers.map(({ layer, labels }) => [layer.localBytes, labels]));
  family('lazypull_fetch_requests_total', 'counter', 'Requests for content, by what they were made for.', layers.flatMap(({ layer, labels }) =>
    Object.entries(layer.requestsBy).map(([purpose, count]): Sample => [count, { ...labels, for: purpose }])));
  family('lazypull_fetched_bytes_total', 'counter', 'Stored bytes of content that were fetched.', layers.map(({ layer, labels }) => [layer.fetchedBytes, labels]));
  family('lazypull_indexed_bytes_total', 'counter', 'Stored bytes of layers that were fetched to index the image, content included.', [[measured.indexedBytes]]);
  family('lazypull_refetched_chunks_total', 'counter', 'Chunks that were wrong and fetched again.', layers.map(({ layer, labels }) => [layer.refetched, labels]));
  family('lazypull_misses_total', 'counter', 'Reads that were not answered from what is local.', layers.map(({ layer, labels }) => [layer.misses, labels]));
  family('lazypull_miss_errors_total', 'counter', 'Those of them that failed.', layers.map(({ layer, labels }) => [layer.errors, labels]));
  family('lazypull_miss_answers_total', 'counter', 'Answered misses, by where the bytes came from.', Object.entries(content.answers).map(([how, count]): Sample => [count, { how }]));
  family('lazypull_miss_seconds', 'histogram', 'How long misses took.', histogram(reads));
  family('lazypull_fuse_requests_total', 'counter', 'Requests of the kernel.', Object.entries(fuse.requests).map(([operation, count]): Sample => [count, { operation }]));
  family('lazypull_fuse_local_reads_total', 'counter', 'Reads that were answered from what is local.', [[fuse.localReads]]);
  family('lazypull_fuse_local_read_bytes_total', 'counter', 'Their bytes.', [[fuse.localBytes]]);
  family('lazypull_fuse_missed_read_bytes_total', 'counter', 'Bytes of reads that had to wait for something.', [[fuse.missBytes]]);
  family('lazypull_fuse_pending_reads', 'gauge', 'Reads that are waiting.', [[fuse.pending]]);
  family('lazypull_fuse_errors_total', 'counter', 'Requests that were answered with an error.', [[fuse.errors]]);
  family('lazypull_fuse_interrupted_total', 'counter', 'Requests that nobody waited for any more.', [[fuse.interrupted]]);
  family('process_resident_memory_bytes', 'gauge', 'Memory of the daemon.', [[measured.residentBytes]]);
  family('process_cpu_seconds_total', 'counter', 'Processor time of the daemon.', [[measured.cpuSeconds]]);
  return `${lines.join('\n')}\n`;
}

function histogram(reads: ReadTimes): readonly Sample[] {
  let total = 0;
  const samples = reads.counts.map((count, i): Sample => {
    total += count;
    return [total, { le: i < BUCKETS.length ? (BUCKETS[i] as number) : '+Inf' }, '_bucket'];
  });
  return [...samples, [reads.sum, {}, '_sum'], [total, {}, '_count']];
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${`${value}`.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
