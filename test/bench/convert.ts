import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startContainerd } from '../support/peers-containerd.ts';
import { findTool, must, type Scope } from '../support/peers.ts';
import { PROGRAM } from '../support/peers-cli.ts';
import { measure, median, medianCost, type Cost } from './measure.ts';

interface Manifest {
  readonly layers: readonly { readonly digest: string; readonly size: number }[];
}

/**
 * The whole command against the reference tool's: the same image, in turn, each run from a cold process. Theirs reads and
 * writes containerd's content store, ours an OCI layout; both write the result to disk and sync it. Ratios are taken pair by pair.
 */
export async function benchConvert(t: Scope, layout: string, tag: string, runs: number): Promise<object> {
  for (const tool of ['ctr-remote', 'containerd', '/usr/bin/time']) {
    if (!(tool.startsWith('/') ? existsSync(tool) : findTool(tool))) return { scenario: 'convert', image: tag, skipped: `${tool} is not installed` };
  }
  const containerd = await startContainerd(t);
  const socket = join(containerd.folder, 'containerd.sock');
  const daemon = pidOf(join(containerd.folder, 'config.toml'));
  const work = mkdtempSync(join(tmpdir(), 'lazypull-bench-'));
  try {
    const archive = join(work, 'image.tar');
    await must('tar', ['-C', layout, '-cf', archive, '.'], { timeout: 600_000 });
    await containerd.ctr(['images', 'import', '--no-unpack', '--all-platforms', '--base-name', 'bench', archive], { timeout: 600_000 }).catch(() => containerd.ctr(['images', 'import', '--all-platforms', '--base-name', 'bench', archive], { timeout: 600_000 }));
    rmSync(archive);
    const theirs: Cost[] = [];
    const ours: Cost[] = [];
    const sizes = { source: 0, theirs: 0, ours: 0 };
    for (let run = 0; run < runs; run++) {
      const target = `bench:${tag}-esgz`;
      theirs.push(await measure('ctr-remote', ['--address', socket, 'images', 'convert', '--estargz', '--oci', `bench:${tag}`, target], daemon));
      const out = join(work, 'out');
      ours.push(await measure(process.execPath, [PROGRAM, 'convert', `oci:${layout}:${tag}`, `oci:${out}:${tag}`, '--format', 'estargz']));
      if (run === 0) {
        sizes.source = layoutSize(layout, tag);
        sizes.ours = layoutSize(out, tag);
        sizes.theirs = layersOf(JSON.parse((await containerd.ctr(['content', 'get', await digestOfImage(containerd.ctr, target)])).text) as Manifest);
      }
      rmSync(out, { recursive: true, force: true });
      await containerd.ctr(['images', 'rm', '--sync', target]);
    }
    const ratio = (figure: keyof Cost): number => round(median(theirs.map((cost, i) => cost[figure] / (ours[i] as Cost)[figure])));
    return {
      scenario: 'convert',
      isolates: 'the whole command, image on disk to image on disk',
      image: tag,
      runs,
      bytes: sizes,
      theirs: medianCost(theirs),
      ours: medianCost(ours),
      ratios: { wall: ratio('wall'), cpu: ratio('cpu'), size: round(sizes.ours / sizes.theirs, 4) },
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function digestOfImage(ctr: (args: readonly string[]) => Promise<{ text: string }>, name: string): Promise<string> {
  const list = (await ctr(['images', 'ls', `name==${name}`])).text;
  return /sha256:[0-9a-f]{64}/.exec(list)?.[0] ?? '';
}

const layersOf = (manifest: Manifest): number => manifest.layers.reduce((sum, { size }) => sum + size, 0);

function layoutSize(layout: string, tag: string): number {
  const read = (path: string): unknown => JSON.parse(readFileSync(join(layout, path), 'utf8'));
  const { manifests } = read('index.json') as { manifests: { digest: string; annotations?: Record<string, string> }[] };
  const entry = manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag);
  return layersOf(read(join('blobs', (entry?.digest ?? '').replace(':', '/'))) as Manifest);
}

function pidOf(config: string): number | undefined {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(config)) return Number(pid);
    } catch {
      // ended meanwhile
    }
  }
  return undefined;
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
