import type { Scope } from '../support/peers.ts';
import { inScope } from '../support/scope.ts';

/** A comparison with the reference tool: what it is called with, what it says of itself, and its figures. */
interface Scenario {
  readonly args: readonly ('LAYOUT' | 'TAG' | '[RUNS]')[];
  readonly about: string;
  readonly run: (t: Scope, layout: string, tag: string, runs: number) => Promise<unknown>;
}

const SCENARIOS: Record<string, Scenario> = {
  convert: {
    args: ['LAYOUT', 'TAG', '[RUNS]'],
    about: 'lazypull convert against ctr-remote image convert --estargz (root, containerd, stargz-snapshotter, time)',
    run: async (t, layout, tag, runs) => (await import('./convert.ts')).benchConvert(t, layout, tag, runs),
  },
  kernels: {
    args: ['LAYOUT', 'TAG'],
    about: 'inflate, deflate, zstd and lz4 against node:zlib, gzip, pigz, libzstd and lz4 over one layer',
    run: async (_t, layout, tag) => (await import('./kernels.ts')).benchKernels(layout, tag),
  },
  ztoc: {
    args: ['LAYOUT', 'TAG', '[RUNS]'],
    about: "lazypull index of the largest layer against soci-snapshotter's builder (go, gcc), gzip and zlib (time)",
    run: async (t, layout, tag, runs) => (await import('./ztoc.ts')).benchZtoc(t, layout, tag, runs),
  },
  nydus: {
    args: ['LAYOUT', 'TAG', '[RUNS]'],
    about: "lazypull convert --format nydus against containerd's converter with nydus-image, and nydus-image alone (nydus-image or cargo, go, time)",
    run: async (t, layout, tag, runs) => (await import('./nydus.ts')).benchNydus(t, layout, tag, runs),
  },
  mount: {
    args: ['LAYOUT', 'TAG', '[RUNS]'],
    about: 'a mount against ext4, bindfs and fuse-overlayfs; its reading over a network, start and memory (root, mkfs.ext4, umoci, openssl)',
    run: async (t, layout, tag, runs) => (await import('./mount.ts')).benchMount(t, layout, tag, runs),
  },
  ready: {
    args: ['LAYOUT', 'TAG', '[RUNS]'],
    about: 'lazypull run until the image is at work, over 100 Mbit/s and 20 ms, against a pull and run by containerd (root, docker-registry, containerd, runc)',
    run: async (t, layout, tag, runs) => (await import('./ready.ts')).benchReady(t, layout, tag, runs),
  },
  erofs: {
    args: [],
    about: 'EROFS images of 60 000 and a million synthetic files, the former against mkfs.erofs (erofs-utils)',
    run: async () => (await import('./erofs.ts')).benchErofs(),
  },
};

const usage = (): string =>
  `usage: npm run bench -- SCENARIO ARGS\n\n${Object.entries(SCENARIOS)
    .map(([name, { args, about }]) => `  ${[name, ...args].join(' ').padEnd(28)} ${about}\n`)
    .join('')}\nLAYOUT is an OCI image layout. Prints one JSON object.\n`;

const [name = '', layout = '', tag = '', count = '3'] = process.argv.slice(2);
const scenario = Object.hasOwn(SCENARIOS, name) ? SCENARIOS[name] : undefined;
if (!scenario || (scenario.args.includes('TAG') && (!layout || !tag))) {
  process.stderr.write(usage());
  process.exitCode = 2;
} else {
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const figures = await inScope((t) => scenario.run(t, layout, tag, Number(count)), (reason) => say(`skipped: ${reason}`), say);
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
}
