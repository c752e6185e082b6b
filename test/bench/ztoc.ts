import { copyFileSync, existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfig, parseIndex, parseManifest } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { digestOf } from '../../src/core/digest.ts';
import { PROGRAM } from '../support/peers-cli.ts';
import { buildGo } from '../support/peers-containerd.ts';
import { findTool, type Scope } from '../support/peers.ts';
import { measure, median, medianCost, type Cost } from './measure.ts';

const SPAN_SIZES = [4 << 20, 8 << 20] as const;

/** Counts what a gzip file inflates to, by zlib and nothing else. */
const PYTHON = `
import sys, zlib
inflate, size = zlib.decompressobj(31), 0
with open(sys.argv[1], 'rb') as layer:
    while piece := layer.read(1 << 20): size += len(inflate.decompress(piece))
print(size)
`;
const NODE = `
const gunzip = require('node:zlib').createGunzip({ chunkSize: 1 << 18 });
let size = 0;
require('node:fs').createReadStream(process.argv[1], { highWaterMark: 1 << 20 }).pipe(gunzip).on('data', (bytes) => (size += bytes.length)).on('end', () => console.log(size));
`;

/**
 * The index of an image's largest layer: `lazypull index` on a layout that holds this layer alone, from a cold process to the
 * index on disk, against soci-snapshotter's builder and against mere decompression of the same file. All take turns; ratios
 * are taken round by round.
 */
export async function benchZtoc(t: Scope, layout: string, tag: string, runs: number): Promise<object> {
  if (!existsSync('/usr/bin/time')) return { scenario: 'ztoc', image: tag, skipped: '/usr/bin/time is not installed' };
  const official = await buildGo(t, 'go-soci');
  const work = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    const layer = largestLayer(layout, tag);
    const python = findTool('python3');
    const inflaters: Record<string, readonly [string, ...string[]]> = {
      'gzip -dc | wc -c': ['/bin/sh', '-c', 'gzip -dc "$1" | wc -c', 'sh', layer.path],
      [python ? 'zlib by python3' : 'zlib by node']: python ? [python, '-c', PYTHON, layer.path] : [process.execPath, '-e', NODE, layer.path],
    };
    const costs = new Map<string, Cost[]>();
    const cost = async (name: string, command: string, ...args: readonly string[]): Promise<void> => void costs.set(name, [...(costs.get(name) ?? []), await measure(command, args)]);
    const sizes = new Map<number, { bytes: number; share: number; sameAsOfficial?: boolean }>();
    for (let run = 0; run < runs; run++) {
      for (const spanSize of SPAN_SIZES) {
        const theirs = join(work, 'theirs');
        if (official.program !== undefined) await cost(`official, spans of ${spanSize}`, official.program, 'build', layer.path, String(spanSize), theirs);
        const folder = join(work, 'layout');
        imageOf(folder, layer);
        await cost(`lazypull, spans of ${spanSize}`, process.execPath, PROGRAM, 'index', `oci:${folder}:one`, '--span-size', String(spanSize), '--min-layer-size', '0');
        const ours = ztocIn(folder);
        sizes.set(spanSize, { bytes: ours.length, share: round(ours.length / layer.size, 4), ...(official.program !== undefined && { sameAsOfficial: readFileSync(theirs).equals(ours) }) });
        rmSync(folder, { recursive: true });
      }
      for (const [name, [command, ...args]] of Object.entries(inflaters)) await cost(name, command, ...args);
    }
    const ours = costs.get(`lazypull, spans of ${SPAN_SIZES[0]}`) as Cost[];
    const ratio = (theirs: readonly Cost[], figure: 'wall' | 'cpu'): number => round(median(ours.map((one, i) => one[figure] / (theirs[i] as Cost)[figure])), 2);
    return {
      scenario: 'ztoc',
      isolates: 'index of one layer, layer on disk to index on disk',
      image: tag,
      layer: { digest: layer.digest, bytes: layer.size },
      runs,
      ...(official.reason !== undefined && { withoutOfficial: official.reason }),
      index: Object.fromEntries(sizes),
      costs: Object.fromEntries([...costs].map(([name, all]) => [name, medianCost(all)])),
      /** Ours at the first span size, as a part of theirs. */
      ratios: Object.fromEntries([...costs].filter(([name]) => !name.startsWith('lazypull') && !name.endsWith(String(SPAN_SIZES[1]))).map(([name, all]) => [name, { wall: ratio(all, 'wall'), cpu: ratio(all, 'cpu') }])),
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

interface Layer {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly diffId: string;
}

const blobPath = (layout: string, digest: string): string => join(layout, 'blobs', ...digest.split(':'));

function largestLayer(layout: string, tag: string): Layer {
  const entry = parseIndex(readFileSync(join(layout, 'index.json'))).manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag);
  if (!entry) throw new Error(`${layout} has no image ${tag}`);
  const { layers, config } = parseManifest(readFileSync(blobPath(layout, entry.digest)));
  const { diff_ids: diffIds } = parseConfig(readFileSync(blobPath(layout, config.digest))).rootfs;
  const [largest] = layers.map((layer, i) => ({ ...layer, diffId: diffIds[i] as string })).sort((a, b) => b.size - a.size);
  if (!largest) throw new Error(`${tag} has no layers`);
  return { ...largest, path: blobPath(layout, largest.digest) };
}

/** A layout with an image `one` of this layer alone. */
function imageOf(folder: string, layer: Layer): void {
  mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true });
  try {
    linkSync(layer.path, blobPath(folder, layer.digest));
  } catch {
    copyFileSync(layer.path, blobPath(folder, layer.digest));
  }
  const put = (mediaType: string, value: object): object => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = digestOf(bytes);
    writeFileSync(blobPath(folder, digest), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const config = put(OCI.config, { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [layer.diffId] } });
  const { mediaType, digest, size } = layer;
  const manifest = put(OCI.manifest, { schemaVersion: 2, mediaType: OCI.manifest, config, layers: [{ mediaType, digest, size }] });
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, mediaType: OCI.index, manifests: [{ ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'one' } }] }));
}

/** The only zTOC of a layout. */
function ztocIn(folder: string): Buffer {
  const all = parseIndex(readFileSync(join(folder, 'index.json'))).manifests;
  for (const { digest } of all) {
    const manifest = parseManifest(readFileSync(blobPath(folder, digest)));
    const ztoc = manifest.layers.find(({ mediaType }) => mediaType === 'application/octet-stream');
    if (ztoc && statSync(blobPath(folder, ztoc.digest)).size === ztoc.size) return readFileSync(blobPath(folder, ztoc.digest));
  }
  throw new Error('lazypull index left no zTOC');
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
