import { buildGo, GO_PROGRAMS } from '../support/peers-containerd.ts';
import { inScope } from '../support/scope.ts';
import { buildNydusCrates } from './nydus-tools.ts';

/** Builds the programs that interop tests hold us against; the tests then find them built. Run while other things wait for disks and networks. */
const say = (name: string, { reason }: { readonly reason?: string | undefined }): boolean => process.stdout.write(`${name}: ${reason ?? 'built'}\n`);

await inScope(async (scope) => {
  const go = async (): Promise<void> => {
    for (const name of Object.keys(GO_PROGRAMS) as (keyof typeof GO_PROGRAMS)[]) say(name, await buildGo(scope, name));
  };
  await Promise.all([go(), buildNydusCrates(scope).then((built) => say("Nydus' crates", built))]);
});
