import { LazypullError } from '../../core/errors.ts';
import { matcherOf } from '../../layer/glob.ts';
import type { FileMap, FileRun } from './file-map.ts';
import type { MountPlan, PrefetchOptions } from './types.ts';

/** Lines of one list. */
const MAX_LINES = 100_000;

/** What a prefetch is about: what the layers say should be fetched first, then what a user's list names, in the order of the devices. */
export async function prefetchRuns(plan: MountPlan, { landmarks = true, paths = [] }: PrefetchOptions, mapOf: () => Promise<FileMap>): Promise<{ readonly runs: readonly FileRun[]; readonly unmatched: readonly string[] }> {
  if (paths.length > MAX_LINES) throw new LazypullError('LIMIT', `a list of ${paths.length} paths is above the ${MAX_LINES} allowed`);
  const ahead = landmarks ? plan.devices.flatMap(({ ahead: ranges = [] }, device) => ranges.map(([address, length]): FileRun => ({ device, address, length }))) : [];
  if (paths.length === 0) return { runs: ahead, unmatched: [] };
  const { runs, unmatched } = (await mapOf()).match(paths.map((line) => matcherOf(line, clean(line))));
  return { runs: [...ahead, ...runs], unmatched };
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
