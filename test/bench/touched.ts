import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { builtinFormats } from '../../formats/builtin.ts';
import type { Chunk } from '../../src/core/types.ts';
import { openImage, type OpenImage } from '../../src/image/open.ts';
import { LayerAddresses } from '../../src/mount/data/addresses.ts';
import { MountCache } from '../../src/mount/data/cache.ts';
import { openContent } from '../../src/mount/data/content.ts';
import { planMount } from '../../src/mount/data/plan.ts';
import type { MountPlan } from '../../src/mount/data/types.ts';
import type { Miss } from '../../src/mount/types.ts';
import { mountFuse } from '../../src/mount/fuse/mount.ts';
import { startFuseSession } from '../../src/mount/fuse/session.ts';
import { openLocation } from '../../src/oci/location.ts';
import { must, scratch, unmountBelow, type Scope } from '../support/peers.ts';
import { untilReady, type Workload } from './workloads.ts';

/** What a workload reads of an image until it is ready. */
export interface Touched {
  /** Pages of 4096 bytes that were read, in bytes. */
  readonly pages: number;
  /** Stored bytes of the chunks that these pages are in; each stored unit once. */
  readonly stored: number;
  readonly chunks: number;
  /** Paths of the files, in the order in which they were read first. */
  readonly files: readonly string[];
}

const PAGE = 4096;

/**
 * Runs a workload over the image, mounted by FUSE without anything kept and without readahead of any kind: the kernel then asks for the very pages
 * that the workload needs. Which stored bytes these are is told by the format's own index.
 */
export async function recordTouched(t: Scope, ref: string, workload: Workload): Promise<Touched> {
  const folder = scratch(t);
  const [lower, upper, work, root, cacheDir] = ['lower', 'upper', 'work', 'root', 'cache'].map((name) => join(folder, name)) as [string, string, string, string, string];
  for (const dir of [lower, upper, work, root]) mkdirSync(dir);
  const location = await openLocation(ref, { plainHttp: true, env: {}, onWarning: () => undefined });
  const cache = await MountCache.open(cacheDir, { maxBytes: 10e9 });
  const formats = await Promise.all(builtinFormats.filter(({ reads }) => reads !== false).map((entry) => entry.load()));
  const image = await openImage(location, formats);
  const plan = await planMount(image, cache, { formats });
  const content = await openContent(plan, () => Promise.resolve(image), cache, { loadFormats: () => Promise.resolve(formats) });
  const read = plan.devices.map(({ size }) => new Uint8Array(size / PAGE));
  const places: Miss[] = [];
  const { fd } = await mountFuse(lower, { readAheadKib: 0 });
  const session = await startFuseSession({
    fd,
    served: { shape: 'tree', metadata: plan.metadata, devices: content.devices.map(({ size, fd: local, present }) => ({ size, fd: local, present: new SharedArrayBuffer(present.byteLength) })) },
    answer: (miss, signal) => {
      places.push(miss);
      read[miss.device]?.fill(1, Math.floor(miss.address / PAGE), Math.ceil((miss.address + miss.length) / PAGE));
      return content.read(miss, signal);
    },
    resend: false,
    onProblem: (error) => t.diagnostic(error.message),
  });
  const files = new Set<string>();
  try {
    await must('mount', ['-t', 'overlay', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, root]);
    const enter = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"';
    await untilReady(['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', enter, root, ...workload.command], {}, workload, 'SIGKILL');
  } finally {
    await unmountBelow(folder);
    await session.close();
    for (const { device, address } of places) files.add((await content.locate(device, address)).path ?? '');
    await content.close();
    await cache.close();
  }
  const touched = await storedBytes(image, plan, read);
  await location.store.close();
  return { ...touched, files: [...files].filter((path) => path !== '') };
}

async function storedBytes(image: OpenImage, plan: MountPlan, read: readonly Uint8Array[]): Promise<Omit<Touched, 'files'>> {
  const units = new Map<string, number>();
  let pages = 0;
  for (const [number, { digest }] of plan.layers.entries()) {
    const devices = plan.devices.flatMap((device, index) => (device.layer === number ? [{ ...device, read: read[index] as Uint8Array }] : []));
    const open = await image.layers[number]?.open();
    if (!open || devices.length === 0) continue;
    const addresses = new LayerAddresses(open, { regions: devices.some(({ tree }) => tree) });
    for (const { blob, read: bits } of devices) {
      const own = addresses.devices.findIndex((device) => device.blob === blob);
      for (let page = 0; page < bits.length; page += 1) {
        if (bits[page] === 0) continue;
        pages += 1;
        for (const at of addresses.chunksAt(own, page * PAGE, PAGE)) {
          const chunk = addresses.chunks[at] as Chunk;
          units.set(`${digest} ${chunk.blob} ${chunk.offset}`, chunk.length);
        }
      }
    }
  }
  return { pages: pages * PAGE, stored: [...units.values()].reduce((sum, length) => sum + length, 0), chunks: units.size };
}
