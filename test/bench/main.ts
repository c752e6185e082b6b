import { runScope } from './scope.ts';

const USAGE = `usage: npm run bench -- SCENARIO ARGS

  convert LAYOUT TAG [RUNS]    lazypull convert against ctr-remote image convert --estargz (root, containerd, stargz-snapshotter, time)
  kernels LAYOUT TAG           inflate, deflate, zstd and lz4 against node:zlib, gzip, pigz, libzstd and lz4 over one layer
  ztoc LAYOUT TAG [RUNS]       lazypull index of the largest layer against soci-snapshotter's builder (go, gcc), gzip and zlib (time)
  nydus LAYOUT TAG [RUNS]      lazypull convert --format nydus against containerd's converter with nydus-image, and nydus-image alone (nydus-image or cargo, go, time)
  erofs                        EROFS images of 60 000 and a million synthetic files, the former against mkfs.erofs (erofs-utils)

LAYOUT is an OCI image layout. Prints one JSON object.`;

const [scenario, layout, tag, count] = process.argv.slice(2);
if (scenario === 'erofs') {
  const { benchErofs } = await import('./erofs.ts');
  process.stdout.write(`${JSON.stringify(await benchErofs(), null, 2)}\n`);
} else if (!scenario || !layout || !tag) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 2;
} else if (scenario === 'convert') {
  const { benchConvert } = await import('./convert.ts');
  process.stdout.write(`${JSON.stringify(await runScope((t) => benchConvert(t, layout, tag, Number(count ?? 3))), null, 2)}\n`);
} else if (scenario === 'ztoc') {
  const { benchZtoc } = await import('./ztoc.ts');
  process.stdout.write(`${JSON.stringify(await runScope((t) => benchZtoc(t, layout, tag, Number(count ?? 3))), null, 2)}\n`);
} else if (scenario === 'nydus') {
  const { benchNydus } = await import('./nydus.ts');
  process.stdout.write(`${JSON.stringify(await runScope((t) => benchNydus(t, layout, tag, Number(count ?? 3))), null, 2)}\n`);
} else if (scenario === 'kernels') {
  await import('./kernels.ts');
} else {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = 2;
}
