import { LazypullError } from '../../core/errors.ts';
import { matcherOf } from '../../layer/glob.ts';
import { parseListLine } from '../../layer/list-line.ts';
import type { FileMap, FileRun } from './file-map.ts';
import { listedRuns } from './listed-files.ts';
import type { MountPlan, PrefetchOptions } from './types.ts';

/** Lines of one list. */
const MAX_LINES = 100_000;

/** What a prefetch is about: what the layers say should be fetched first, then what a user's list names, in its order. */
export async function prefetchRuns(plan: MountPlan, { landmarks = true, paths = [] }: PrefetchOptions, mapOf: () => Promise<FileMap>): Promise<{ readonly runs: readonly FileRun[]; readonly unmatched: readonly string[] }> {
  if (paths.length > MAX_LINES) throw new LazypullError('LIMIT', `a list of ${paths.length} paths is above the ${MAX_LINES} allowed`);
  const ahead = landmarks ? plan.devices.flatMap(({ ahead: ranges = [] }, device) => ranges.map(([address, length]): FileRun => ({ device, address, length }))) : [];
  if (paths.length === 0) return { runs: ahead, unmatched: [] };
  const lines = paths.map(parseListLine);
  const literals = lines.map(({ pattern }) => clean(pattern));
  const { runs, others } = await listedRuns(plan.metadata, lines, literals);
  const byLine = [...runs];
  if (others.length > 0) {
    const found = (await mapOf()).match(others.map((line) => matcherOf(paths[line] as string, literals[line] as string)));
    // What a path names is that line's, wherever there is a glob as well.
    const named = new Set(runs.flatMap((of = []) => of.map(placeOf)));
    for (const [i, line] of others.entries()) byLine[line] = found[i]?.filter((run) => !named.has(placeOf(run)));
  }
  const once = new Map(byLine.flatMap((of = []) => of.map((run) => [placeOf(run), run] as const)));
  return { runs: [...ahead, ...once.values()], unmatched: paths.filter((_, line) => byLine[line] === undefined) };
}

function placeOf({ device, address, length }: FileRun): string {
  return `${device} ${address} ${length}`;
}

/** A line as a path in the image: from its root, whether it says so or not. */
function clean(line: string): string {
  const names: string[] = [];
  for (const name of line.trim().split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names.join('/');
}
