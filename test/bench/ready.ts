import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startContainerd, type Containerd } from '../support/peers-containerd.ts';
import { lazypull, PROGRAM } from '../support/peers-cli.ts';
import { startRegistry } from '../support/peers-registry.ts';
import { findTool, scratch, type Scope } from '../support/peers.ts';
import { Link, type LinkRequest } from './link.ts';
import { median } from './measure.ts';
import { recordTouched, type Touched } from './touched.ts';
import { answers, untilReady, WORKLOADS, type Workload } from './workloads.ts';

const MBIT = 100;
const ROUND_TRIP = 20;

type Commands = readonly (readonly string[])[];

/** Files with what the workload reads: paths, and what `run --record` writes. */
interface Lists {
  readonly paths: string;
  readonly recorded: string;
}

/** A version of the image and how it is run. */
interface Version {
  /** How it is made of the one in the layout; `list`: a file with the paths that the workload reads. */
  readonly make: (source: string, target: string, list: string) => Commands;
  /** Flags of `run`. */
  readonly flags?: (lists: Lists) => readonly string[];
}

const copied = (source: string, target: string, ...index: readonly string[]): Commands => [['copy', source, target, '--plain-http'], ['index', target, '--plain-http', ...index]];
const converted = (source: string, target: string, ...flags: readonly string[]): Commands => [['convert', source, target, '--plain-http', ...flags]];

/** Nobody has said what will be read, and then somebody has: whoever makes the image, or who runs it. */
const VERSIONS: Readonly<Record<string, Version>> = {
  index: { make: (source, target) => copied(source, target, '--as', 'erofs') },
  'index-listed': { make: (source, target) => copied(source, target, '--as', 'erofs'), flags: ({ paths }) => ['--prefetch-list', paths] },
  'index-recorded': { make: (source, target) => copied(source, target, '--as', 'erofs'), flags: ({ recorded }) => ['--prefetch-list', recorded] },
  estargz: { make: (source, target) => converted(source, target, '--format', 'estargz') },
  'estargz-listed': { make: (source, target, list) => converted(source, target, '--format', 'estargz', '--prefetch-list', list) },
  'nydus-listed': { make: (source, target, list) => converted(source, target, '--format', 'nydus', '--prefetch-list', list) },
  'soci-listed': { make: (source, target, list) => copied(source, target, '--as', 'soci', '--min-layer-size', '0', '--prefetch-list', list) },
};

interface Measured {
  /** Seconds. */
  readonly seconds: number;
  readonly requests: number;
  readonly bytes: number;
}

/**
 * Time from the command to the moment at which the workload in the image is ready, caches empty, over a link of 100 Mbit/s and 20 ms: `lazypull run`
 * of each lazy version against containerd's pull and run of the plain image, in turn; then the whole image, into our cache and into containerd's.
 */
export async function benchReady(t: Scope, layout: string, tag: string, runs: number): Promise<object> {
  const about = { scenario: 'ready', image: tag, runs, link: { mbit: MBIT, roundTripMs: ROUND_TRIP } };
  const workload = WORKLOADS[tag];
  const skipped = whyNot(workload) ?? ('answers' in (workload?.ready ?? {}) && (await answers(80)) ? 'something else answers on port 80' : undefined);
  if (skipped !== undefined || !workload) return { ...about, skipped };
  const registry = await startRegistry(t);
  const source = `oci:${layout}:${tag}`;
  const at = (name: string, host = registry.host): string => `docker://${host}/${name}:${tag}`;
  const chosen = process.env['LAZYPULL_BENCH_VERSIONS']?.split(',');
  const wanted = Object.entries(VERSIONS).filter(([name]) => chosen?.includes(name) ?? true);
  const folder = scratch(t);
  const lists: Lists = { paths: join(folder, 'paths'), recorded: join(folder, 'recorded') };
  const touched: Record<string, Touched> = {};
  const all = async (commands: Commands): Promise<void> => {
    for (const args of commands) await lazypull(args, { timeout: 600_000 });
  };
  await all([['copy', source, at('plain'), '--plain-http'], ...copied(source, at('recorded'), '--as', 'erofs')]);
  writeFileSync(lists.paths, `${(await recordTouched(t, at('recorded'), workload)).files.join('\n')}\n`);
  await untilReady(...command(folder, ['run', '--record', lists.recorded, '--plain-http', at('recorded'), '--', ...workload.command]), workload);
  for (const [name, { make }] of wanted) {
    await all(make(source, at(name), lists.paths));
    touched[name] = await recordTouched(t, at(name), workload);
  }
  const link = await Link.start(t, registry.host, { mbit: MBIT, roundTrip: ROUND_TRIP });
  const containerd = await startContainerd(t);
  const ours: Record<string, Measured[]> = {};
  const theirs: Measured[] = [];
  const whole: { ours: Measured[]; theirs: Measured[]; download: Measured[] } = { ours: [], theirs: [], download: [] };
  for (let run = 0; run < runs; run += 1) {
    for (const [name, { flags }] of wanted) (ours[name] ??= []).push(await lazily(link, ['run', '--plain-http', ...(flags?.(lists) ?? []), at(name, link.host), '--', ...workload.command], workload));
    const { ready, pull } = await pulled(containerd, link, `${link.host}/plain:${tag}`, workload);
    theirs.push(ready);
    whole.theirs.push(pull);
    whole.ours.push(await lazily(link, ['prefetch', '--all', '--plain-http', at('recorded', link.host)], { command: [], ready: { prints: 'fetched' } }));
    whole.download.push(await downloaded(containerd, link, `${link.host}/plain:${tag}`));
  }
  const peer = seconds(theirs);
  return {
    ...about,
    isolates: 'start of the command until the workload is ready, everything fetched over the link; caches empty each time',
    workload: workload.command.join(' '),
    definitions: {
      touched: 'stored bytes of the chunks (gzip spans, members, zstd chunks: what the format can fetch and check by itself) that hold the pages the workload reads, each once; pages: those pages alone, not compressed',
      floor: 'touched bytes / bandwidth + two round trips',
      fetched: 'all bytes that came over the link by the end of the run, indexes, documents and HTTP headers included',
      listed: 'somebody has said which files will be read: who has made the image, or for the mount index who runs it',
      recorded: 'the same with the parts of the files, as `run --record` has written it',
    },
    containerd: { ready: peer, pull: seconds(whole.theirs), download: seconds(whole.download) },
    whole: { ours: seconds(whole.ours), ofTheirPull: round(seconds(whole.ours) / seconds(whole.theirs)) },
    versions: Object.fromEntries(wanted.map(([name]) => {
      const measured = ours[name] as Measured[];
      const { stored, pages, chunks } = touched[name] as Touched;
      const floor = (stored * 8) / (MBIT * 1e6) + (2 * ROUND_TRIP) / 1000;
      const fetched = median(measured.map(({ bytes }) => bytes));
      return [name, {
        ready: seconds(measured),
        each: measured.map((one) => round(one.seconds, 3)),
        sooner: round(peer / seconds(measured), 1),
        floor: round(floor, 3),
        ofFloor: round(seconds(measured) / floor),
        touched: { stored, pages, chunks },
        fetched,
        ofTouched: round(fetched / stored),
        requests: median(measured.map(({ requests }) => requests)),
      }];
    })),
  };
}

function whyNot(workload: Workload | undefined): string | undefined {
  if (!workload) return `nobody has said what is to run in it; there are ${Object.keys(WORKLOADS).join(', ')}`;
  if (process.geteuid?.() !== 0 || !existsSync('/dev/fuse')) return 'needs root and /dev/fuse';
  const missing = ['docker-registry', 'containerd', 'ctr', 'runc', 'unshare', 'mount'].filter((tool) => !findTool(tool));
  return missing.length > 0 ? `${missing.join(', ')} not installed` : undefined;
}

/** One of our commands, with nothing in its cache. */
async function lazily(link: Link, args: readonly string[], workload: Workload): Promise<Measured> {
  const folder = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    link.take();
    const taken = await untilReady(...command(folder, args), workload);
    return measured(taken, link.take());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One of our commands and its environment, with all that it leaves in a folder. */
function command(folder: string, [verb = '', ...args]: readonly string[]): [readonly string[], Readonly<Record<string, string>>] {
  const runtime = join(folder, 'runtime');
  mkdirSync(runtime, { mode: 0o700 });
  return [[process.execPath, '--', PROGRAM, verb, '--cache-dir', join(folder, 'cache'), ...args], { TMPDIR: folder, HOME: folder, LAZYPULL_RUNTIME_DIR: runtime }];
}

/** containerd's pull and run, with nothing in its store. */
async function pulled(containerd: Containerd, link: Link, ref: string, workload: Workload): Promise<{ readonly ready: Measured; readonly pull: Measured }> {
  link.take();
  const started = performance.now();
  await containerd.ctr(['images', 'pull', '--plain-http', ref], { timeout: 300_000 });
  const pull = (performance.now() - started) / 1000;
  const socket = join(containerd.folder, 'containerd.sock');
  const run = await untilReady(['ctr', '--address', socket, 'run', '--rm', '--net-host', ref, 'bench', ...workload.command], {}, workload);
  await containerd.ctr(['images', 'rm', '--sync', ref]);
  const requests = link.take();
  return { ready: measured(pull + run, requests), pull: measured(pull, requests) };
}

/** Their download alone: nothing is unpacked. */
async function downloaded(containerd: Containerd, link: Link, ref: string): Promise<Measured> {
  const started = performance.now();
  await containerd.ctr(['content', 'fetch', '--plain-http', ref], { timeout: 300_000 });
  const taken = (performance.now() - started) / 1000;
  await containerd.ctr(['images', 'rm', '--sync', ref]);
  return measured(taken, link.take());
}

function measured(taken: number, requests: readonly LinkRequest[]): Measured {
  return { seconds: taken, requests: requests.length, bytes: requests.reduce((sum, { bytes }) => sum + bytes, 0) };
}

const seconds = (all: readonly Measured[]): number => round(median(all.map((one) => one.seconds)), 3);

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
