import { canMount } from '../interop/mounts.ts';
import { haveTools, type Scope } from '../support/peers.ts';
import { BenchImages, largeImage } from './mount-images.ts';
import { benchMemory, benchSequential, benchStart } from './mount-network.ts';
import { benchTrees } from './mount-trees.ts';

/** Images that a layout should have besides the one that is named: one with large files, and one that is small. */
const LARGE = 'torch';
const SMALL = 'debian';
/** The largest file of the former. */
const LIBRARY = 'usr/lib/x86_64-linux-gnu/libtorch_cpu.so.1.13.0';
/** Bytes of a file of the same kind of content that is larger than that. */
const FILE = 512 << 20;

/** A mount against what is asked of it, in one run. LAZYPULL_BENCH_PARTS names some of the parts. */
export async function benchMount(t: Scope, layout: string, tag: string, rounds: number): Promise<object> {
  const scenario = 'mount';
  if (!canMount(t) || !haveTools(t, 'bindfs', 'fuse-overlayfs', 'mkfs.ext4', 'umoci', 'openssl')) return { scenario, skipped: true };
  const images = new BenchImages(t, layout);
  const large = images.has(LARGE) ? LARGE : tag;
  images.add('large', async () => (await largeImage(t, layout, large, FILE)).layout);
  const parts: Readonly<Record<string, () => Promise<object>>> = {
    trees: () => benchTrees(t, images, layout, tag, rounds),
    library: async () => (large === LARGE ? benchSequential(t, images, { tag: large, path: LIBRARY }, rounds) : { skipped: `the layout has no ${LARGE}` }),
    sequential: () => benchSequential(t, images, { tag: 'large', path: 'big.bin' }, rounds),
    start: async () => (images.has(SMALL) && large !== SMALL ? benchStart(t, images, large, SMALL, rounds) : { skipped: `the layout has no ${SMALL}` }),
    memory: () => benchMemory(t, images, tag),
  };
  const wanted = process.env['LAZYPULL_BENCH_PARTS']?.split(',') ?? Object.keys(parts);
  const figures: Record<string, unknown> = { scenario };
  for (const name of wanted) figures[name] = await parts[name]?.();
  return figures;
}
