import { copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseIndex } from '../../src/oci/documents.ts';
import { isIndexType } from '../../src/oci/media-types.ts';
import { readToc, unpackBootstrap } from '../interop/nydus-images.ts';
import { openNydusTools } from '../interop/nydus-tools.ts';
import { layoutManifest } from '../interop/steps.ts';
import { PROGRAM } from '../support/peers-cli.ts';
import { buildGo } from '../support/peers-containerd.ts';
import type { Scope } from '../support/peers.ts';
import { measure, median, medianCost, type Cost } from './measure.ts';

const CHUNK_SIZE = 1 << 20;
/** What both call it, then what theirs does. */
const COMPRESSORS = [['zstd', 'zstd'], ['lz4', 'lz4_block']] as const;

/** Layers side by side, as many as there are processors: their builder uses one each. Arguments: program, folder, flags, `--`, layers. */
const CREATE = `
program=$1 folder=$2; shift 2
flags=
while [ "$1" != -- ]; do flags="$flags $1"; shift; done
shift; i=0
for layer; do printf '%s %s\\n' "$i" "$layer"; i=$((i + 1)); done |
  xargs -P "$JOBS" -L 1 sh -c '"$1" create --log-level error --type targz-rafs --whiteout-spec none --blob-inline-meta --features blob-toc $2 --blob "$3/$4.blob" "$5" >/dev/null' sh "$program" "$flags" "$folder"
`;

/**
 * The whole command, layout to layout on disk and synced, against two others. `converter`: containerd's converter for Nydus, which is
 * that of nydusify, with the same builder, on a content store on disk. `builder`: only what every converter has the builder do, `create`
 * for each gzip layer and `merge`; taking the bootstraps out of the blobs between the two, hashing the blobs, and all that makes an image
 * of them is not counted. All take turns; ratios are taken round by round.
 */
export async function benchNydus(t: Scope, layout: string, tag: string, runs: number): Promise<object> {
  if (!existsSync('/usr/bin/time')) return { scenario: 'nydus', image: tag, skipped: '/usr/bin/time is not installed' };
  const found = await openNydusTools(t);
  if (typeof found === 'string') return { scenario: 'nydus', image: tag, skipped: found };
  // What is installed rather than what was built for tests.
  const tools = found.at(-1);
  const [program] = tools?.command() ?? [];
  if (!tools || program === undefined) throw new Error('no tools');
  const converter = await buildGo(t, 'nydus-converter');
  const layers = layoutManifest(layout, tag).layers.map(({ digest }) => join(layout, 'blobs', 'sha256', digest.slice(7)));
  const work = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    const results: Record<string, object> = {};
    for (const [ourName, theirName] of COMPRESSORS) {
      const costs: { readonly ours: Cost[]; readonly builder: Cost[]; readonly converter: Cost[] } = { ours: [], builder: [], converter: [] };
      let sizes = { blobs: { theirs: 0, ours: 0 }, bootstrap: { theirs: 0, ours: 0 } };
      for (let run = 0; run < runs; run++) {
        const flags = ['--compressor', theirName, '--chunk-size', `0x${CHUNK_SIZE.toString(16)}`];
        const folder = join(work, 'theirs');
        mkdirSync(folder);
        const created = await measure('/usr/bin/env', [`JOBS=${availableParallelism()}`, '/bin/sh', '-c', CREATE, 'sh', program, folder, ...flags, '--', ...layers]);
        const boots = layers.map((_, i) => takeBootstrap(join(folder, `${i}.blob`)));
        const merged = join(folder, 'image.boot');
        costs.builder.push(sum(created, await measure(program, ['merge', '--log-level', 'error', '--bootstrap', merged, ...boots])));

        if (converter.program !== undefined) {
          const store = join(work, 'store');
          const manifest = copyImage(layout, tag, store);
          costs.converter.push(await measure(converter.program, [...flags.map((flag) => flag.replace('--', '-')), program, store, manifest]));
          rmSync(store, { recursive: true, force: true });
        }

        const out = join(work, 'ours');
        costs.ours.push(await measure(process.execPath, [PROGRAM, 'convert', `oci:${layout}:${tag}`, `oci:${out}:${tag}`, '--format', 'nydus', '--compressor', ourName, '--chunk-size', String(CHUNK_SIZE)]));
        if (run === 0) {
          const made = layoutManifest(out, tag).layers;
          const last = made.at(-1);
          const files = unpackBootstrap(readFileSync(join(out, 'blobs', 'sha256', (last?.digest ?? '').slice(7))));
          sizes = {
            blobs: {
              theirs: readdirSync(folder).filter((name) => name.endsWith('.blob')).reduce((total, name) => total + statSync(join(folder, name)).size, 0),
              ours: made.slice(0, -1).reduce((total, { size }) => total + size, 0),
            },
            bootstrap: { theirs: statSync(merged).size, ours: files.get('image/image.boot')?.length ?? 0 },
          };
        }
        for (const done of [folder, out]) rmSync(done, { recursive: true, force: true });
      }
      const ratio = (theirs: readonly Cost[], figure: keyof Cost): number => round(median(theirs.map((cost, i) => cost[figure] / (costs.ours[i] as Cost)[figure])));
      const others = (['converter', 'builder'] as const).filter((name) => costs[name].length > 0);
      results[ourName] = {
        bytes: { ...sizes, ratio: { blobs: round(sizes.blobs.ours / sizes.blobs.theirs, 4), bootstrap: round(sizes.bootstrap.ours / sizes.bootstrap.theirs, 4) } },
        costs: Object.fromEntries((['ours', ...others] as const).map((name) => [name, medianCost(costs[name])])),
        /** Theirs in parts of ours: above 1, ours is better. */
        ratios: Object.fromEntries(others.map((name) => [name, { wall: ratio(costs[name], 'wall'), cpu: ratio(costs[name], 'cpu') }])),
      };
    }
    return { scenario: 'nydus', isolates: 'the whole command, image on disk to image on disk', ...(converter.reason !== undefined && { withoutConverter: converter.reason }), image: tag, tools: tools.name, chunkSize: CHUNK_SIZE, runs, results };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The image in a layout of its own, without copying where that can be avoided; the digest of its manifest. */
function copyImage(layout: string, tag: string, to: string): string {
  const manifest = tagged(layout, tag);
  mkdirSync(join(to, 'blobs', 'sha256'), { recursive: true });
  const { config, layers } = layoutManifest(layout, tag);
  for (const digest of [manifest, config.digest, ...layers.map((layer) => layer.digest)]) {
    const [from, at] = [layout, to].map((folder) => join(folder, 'blobs', 'sha256', digest.slice(7))) as [string, string];
    try {
      linkSync(from, at);
    } catch {
      copyFileSync(from, at);
    }
  }
  return manifest;
}

/** Of an image for one platform; an index is not what converters are compared on. */
function tagged(layout: string, tag: string): string {
  const { manifests } = parseIndex(readFileSync(join(layout, 'index.json')));
  const entry = manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag);
  if (!entry || isIndexType(entry.mediaType)) throw new Error(`${layout} has no image ${tag} for one platform`);
  return entry.digest;
}

function takeBootstrap(blob: string): string {
  const path = `${blob}.boot`;
  writeFileSync(path, readToc(readFileSync(blob)).get('image.boot')?.() ?? new Uint8Array());
  return path;
}

/** One after the other. */
function sum(a: Cost, b: Cost): Cost {
  return { wall: a.wall + b.wall, cpu: a.cpu + b.cpu, rss: Math.max(a.rss, b.rss) };
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
