import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BACKENDS, dropCaches, MountScene, type BackendName } from '../interop/mounts.ts';
import { must, type Scope } from '../support/peers.ts';
import { built } from '../support/root.ts';
import { median } from './measure.ts';
import { LAZY, type BenchImages, type Lazy } from './mount-images.ts';

/** What a registry takes to answer, ms. */
const DELAY = 5;
const MB = 1e6;

export interface LargeFile {
  readonly tag: string;
  readonly path: string;
}

/**
 * A large file, read from front to back while all of it is still in a registry that answers after 5 ms, without a limit of bandwidth. Registry,
 * server and reader share the machine. `settled` is the rate of the second half: by then the server's program has been compiled.
 */
export async function benchSequential(t: Scope, images: BenchImages, { tag, path }: LargeFile, rounds: number): Promise<object> {
  const rates = new Map<string, { readonly whole: number[]; readonly settled: number[] }>();
  let size = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const lazy of LAZY) {
      for (const backend of BACKENDS) {
        const image = await images.remote(tag, lazy, DELAY);
        const scene = new MountScene(t);
        const mount = await scene.mount(image, ['--backend', backend, '--plain-http']);
        await dropCaches();
        const { seconds, bytes, firstHalf } = JSON.parse((await must(process.execPath, [join(built, 'test', 'bench', 'mount-reader.js'), 'seq', join(mount.dir, path)], { timeout: 600_000 })).text) as { seconds: number; bytes: number; firstHalf: number };
        size = bytes;
        const { requests = 0 } = await mount.ps();
        await mount.unmount();
        await scene.assertNothingLeft();
        const key = `${lazy} ${backend}`;
        const found = rates.get(key) ?? { whole: [], settled: [] };
        rates.set(key, found);
        found.whole.push(bytes / MB / seconds);
        found.settled.push(bytes / 2 / MB / (seconds - firstHalf));
        t.diagnostic(`${path} as ${key}: ${found.whole.at(-1)?.toFixed(0)} MB/s, settled ${found.settled.at(-1)?.toFixed(0)}, ${requests} requests`);
      }
    }
  }
  const rate = (lazy: Lazy, backend: BackendName): number[] => rates.get(`${lazy} ${backend}`)?.whole ?? [];
  return {
    isolates: 'reading ahead over a network with a round trip of 5 ms',
    image: tag,
    path,
    bytes: size,
    rounds,
    'MB/s (200)': each((lazy, backend) => Math.round(median(rate(lazy, backend)))),
    'best MB/s': each((lazy, backend) => Math.round(Math.max(...rate(lazy, backend)))),
    'settled MB/s': each((lazy, backend) => Math.round(median(rates.get(`${lazy} ${backend}`)?.settled ?? []))),
  };
}

/** Time from the call to a mount that can be used, of a large and of a small image with mount indexes, in turn, each with an empty cache. */
export async function benchStart(t: Scope, images: BenchImages, large: string, small: string, rounds: number): Promise<object> {
  const times = new Map<string, number[]>();
  for (let round = -1; round < rounds; round += 1) {
    for (const backend of BACKENDS) {
      for (const tag of [small, large]) {
        const image = await images.remote(tag, 'index', 0);
        const scene = new MountScene(t);
        const started = performance.now();
        const mount = await scene.mount(image, ['--backend', backend, '--plain-http']);
        const seconds = (performance.now() - started) / 1000;
        await mount.unmount();
        await scene.assertNothingLeft();
        // The first one of each finds nothing of the program in the kernel's caches.
        if (round >= 0) times.set(`${tag} ${backend}`, [...(times.get(`${tag} ${backend}`) ?? []), seconds]);
      }
    }
  }
  const of = (tag: string, backend: BackendName): readonly number[] => times.get(`${tag} ${backend}`) ?? [];
  return {
    isolates: 'what a mount costs that depends on the size of the image',
    rounds,
    seconds: Object.fromEntries([...times].map(([key, values]) => [key, round3(median(values))])),
    [`${large} to ${small} (1.2)`]: Object.fromEntries(BACKENDS.map((backend) => [backend, round3(median(of(large, backend).map((seconds, i) => seconds / (of(small, backend)[i] as number))))])),
  };
}

/** Resident memory of the processes of a mount once its whole tree has been read from a registry, MB. */
export async function benchMemory(t: Scope, images: BenchImages, tag: string): Promise<object> {
  const found = new Map<string, object>();
  for (const lazy of LAZY) {
    for (const backend of BACKENDS) {
      const scene = new MountScene(t);
      const mount = await scene.mount(await images.remote(tag, lazy, 0), ['--backend', backend, '--plain-http']);
      const started = performance.now();
      await must('bash', ['-c', 'set -o pipefail; tar -cf - -C "$1" . | cat > /dev/null', 'bash', mount.dir], { timeout: 600_000 });
      const seconds = (performance.now() - started) / 1000;
      const { pids } = await mount.ps();
      const daemon = memoryOf(pids.daemon);
      const supervisor = memoryOf(pids.supervisor);
      found.set(`${lazy} ${backend}`, { daemon, supervisor, seconds: round3(seconds) });
      t.diagnostic(`${lazy} ${backend}: ${JSON.stringify(found.get(`${lazy} ${backend}`))}`);
      await mount.unmount();
      await scene.assertNothingLeft();
    }
  }
  return { isolates: 'memory after the whole tree was read from a registry', image: tag, 'MB (150)': each((lazy, backend) => found.get(`${lazy} ${backend}`)) };
}

/** VmRSS and its peak. */
function memoryOf(pid: number | undefined): { readonly rss: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const field = (name: string): number => Math.round((Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024) / MB);
  return { rss: field('VmRSS'), peak: field('VmHWM') };
}

function each(of: (lazy: Lazy, backend: BackendName) => unknown): object {
  return Object.fromEntries(LAZY.map((lazy) => [lazy, Object.fromEntries(BACKENDS.map((backend) => [backend, of(lazy, backend)]))]));
}

function round3(value: number): number {
  return Number(value.toFixed(3));
}
