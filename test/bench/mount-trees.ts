import { join } from 'node:path';
import { BACKENDS, dropCaches, MountScene, type BackendName } from '../interop/mounts.ts';
import { lazypull } from '../support/peers-cli.ts';
import { must, type Scope } from '../support/peers.ts';
import { built } from '../support/root.ts';
import { median } from './measure.ts';
import { noiseImage, type BenchImages } from './mount-images.ts';
import { nativePlaces } from './mount-places.ts';

/** What is done with the tree, as a shell does it. */
const WALKS = {
  find: 'find "$1" > /dev/null',
  stat: 'find "$1" -printf "%m %U %G %s %T@ %l\\n" > /dev/null',
  tar: 'tar -cf - -C "$1" . | cat > /dev/null',
} as const;
/** What is done with the large file. */
const READS = { sequential: ['seq'], random: ['random', '15000'] } as const;
type Walk = keyof typeof WALKS;
type Read = keyof typeof READS;
type Work = Walk | Read;
const WORKS = [...Object.keys(WALKS), ...Object.keys(READS)] as readonly Work[];

const PEERS = ['bindfs', 'fuse-overlayfs'] as const;
type PlaceName = 'ext4' | BackendName | (typeof PEERS)[number];
const BIG = 1 << 30;
/** Work is done so often in a row while it is warm, or until that has taken so long (s); the fastest counts, as others use the machine too. */
const WARM_TIMES = 10;
const WARM_SECONDS = 2;

interface Place {
  readonly tree: string;
  readonly big: string;
}

type Seconds = Readonly<Record<'cold' | 'warm', readonly number[]>>;

/**
 * Walking and reading files that are on this machine: an image mounted by us, all of it in our cache, against ext4 and against C FUSE file systems that
 * show the ext4. In turn, each work first with nothing in the kernel's caches and then once more. Ratios are taken round by round.
 */
export async function benchTrees(t: Scope, images: BenchImages, layout: string, tag: string, rounds: number): Promise<object> {
  const places = await openPlaces(t, images, layout, tag);
  const names = [...places.keys()];
  const seconds = new Map<string, { cold: number[]; warm: number[] }>();
  for (let round = 0; round < rounds; round += 1) {
    // Nobody is always first.
    const order = names.map((_, i) => names[(i + round) % names.length] as PlaceName);
    for (const work of WORKS) {
      for (const name of order) {
        const place = places.get(name) as Place;
        const found = seconds.get(`${work} ${name}`) ?? { cold: [], warm: [] };
        seconds.set(`${work} ${name}`, found);
        await dropCaches();
        found.cold.push(await time(work, place));
        const warm: number[] = [];
        for (let left = WARM_SECONDS; warm.length < 2 || (warm.length < WARM_TIMES && left > 0); left -= warm.at(-1) as number) warm.push(await time(work, place));
        found.warm.push(Math.min(...warm));
      }
      t.diagnostic(`round ${round + 1}: ${work} ${order.map((name) => `${name} ${show(seconds.get(`${work} ${name}`))}`).join(', ')}`);
    }
  }
  const entries = Number((await must('bash', ['-c', 'find "$1" | wc -l', 'bash', (places.get('ext4') as Place).tree])).text);
  return {
    isolates: 'files that are on this machine, by the kernel of this machine',
    image: tag,
    rounds,
    entries,
    seconds: Object.fromEntries(WORKS.map((work) => [work, Object.fromEntries(names.map((name) => [name, mapSeconds(seconds.get(`${work} ${name}`) as Seconds, median)]))])),
    ratios: ratios(seconds, (ours, theirs) => median(ours.map((own, i) => own / (theirs[i] as number)))),
    'ratios of the fastest': ratios(seconds, (ours, theirs) => Math.min(...ours) / Math.min(...theirs)),
  };
}

/** What is asked of a mount, and what it came to. `ratio` makes one of what each round took. */
function ratios(seconds: ReadonlyMap<string, Seconds>, ratio: (ours: readonly number[], theirs: readonly number[]) => number): object {
  const of = (work: Work, state: 'cold' | 'warm', name: PlaceName): readonly number[] => (seconds.get(`${work} ${name}`) as Seconds)[state];
  const against = (ours: BackendName, work: Work, state: 'cold' | 'warm', theirs: readonly PlaceName[]): number =>
    round(ratio(of(work, state, ours), of(work, state, ours).map((_, i) => Math.min(...theirs.map((name) => of(work, state, name)[i] as number)))));
  const each = (figure: (work: Work, state: 'cold' | 'warm') => number): object =>
    Object.fromEntries(WORKS.map((work) => [work, { cold: figure(work, 'cold'), warm: figure(work, 'warm') }]));
  return {
    'erofs to ext4 (warm find, stat, tar: 1.2)': each((work, state) => against('erofs', work, state, ['ext4'])),
    'erofs to the best C peer (find: 0.33)': each((work, state) => against('erofs', work, state, PEERS)),
    'fuse to the best C peer (all: 1.3)': each((work, state) => against('fuse', work, state, PEERS)),
    'fuse to ext4': each((work, state) => against('fuse', work, state, ['ext4'])),
  };
}

async function openPlaces(t: Scope, images: BenchImages, layout: string, tag: string): Promise<ReadonlyMap<PlaceName, Place>> {
  const big = await noiseImage(t, BIG);
  images.add(big.tag, () => Promise.resolve(big.layout));
  const native = await nativePlaces(t, { layout, tag }, big.file);
  const places = new Map<PlaceName, Place>();
  for (const name of ['ext4', ...PEERS] as const) places.set(name, { tree: join(native[name], 'tree'), big: join(native[name], 'big.bin') });
  const image = await images.local(tag, 'index');
  const noise = await images.local(big.tag, 'index');
  for (const backend of BACKENDS) {
    const scene = new MountScene(t);
    const flags = ['--backend', backend, '--cache-size', '100G'];
    for (const ref of [image, noise]) await lazypull(['prefetch', ref, '--all', '--cache-dir', scene.cache, '--cache-size', '100G'], { env: scene.env, timeout: 600_000 });
    places.set(backend, { tree: (await scene.mount(image, flags)).dir, big: join((await scene.mount(noise, flags)).dir, 'big.bin') });
  }
  await must('sync', [], { timeout: 600_000 });
  return places;
}

async function time(work: Work, place: Place): Promise<number> {
  if (work in WALKS) {
    const started = performance.now();
    await must('bash', ['-c', `set -o pipefail; ${WALKS[work as Walk]}`, 'bash', place.tree], { timeout: 600_000 });
    return (performance.now() - started) / 1000;
  }
  const [how, ...more] = READS[work as Read];
  return ((JSON.parse((await must(process.execPath, [join(built, 'test', 'bench', 'mount-reader.js'), how, place.big, ...more], { timeout: 600_000 })).text)) as { seconds: number }).seconds;
}

function mapSeconds({ cold, warm }: Seconds, of: (values: readonly number[]) => number): object {
  return { cold: round(of(cold), 3), warm: round(of(warm), 3) };
}

function show(seconds: Seconds | undefined): string {
  return seconds ? `${seconds.cold.at(-1)?.toFixed(2)}/${seconds.warm.at(-1)?.toFixed(2)}` : '';
}

function round(value: number, digits = 2): number {
  return Number(value.toFixed(digits));
}
