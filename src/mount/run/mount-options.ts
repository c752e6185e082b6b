import { MS } from '../native.ts';

/** Words of mount(8) that are flags of mount(2). */
const FLAGS = new Map<string, number>([
  ['ro', MS.readOnly], ['nosuid', MS.noSuid], ['nodev', MS.noDev], ['noexec', MS.noExec], ['bind', MS.bind], ['rbind', MS.bind],
  ['rw', 0], ['suid', 0], ['dev', 0], ['exec', 0], ['relatime', 1 << 21], ['strictatime', 1 << 24],
]);
const PROPAGATION = new Map<string, number>([
  ['private', MS.private], ['rprivate', MS.private | MS.recursive], ['slave', MS.slave], ['rslave', MS.slave | MS.recursive],
]);

/** What mount(2) is told for a list of options. */
export interface MountArguments {
  readonly flags: number;
  /** What the file system itself is to know. */
  readonly data: string;
  /** Of a call of its own; 0 for none. */
  readonly propagation: number;
  /** A bind mount with what is mounted below. */
  readonly recursive: boolean;
}

export function mountOptions(options: readonly string[]): MountArguments {
  let flags = 0;
  let propagation = 0;
  const data: string[] = [];
  for (const option of options) {
    const flag = FLAGS.get(option);
    const spread = PROPAGATION.get(option);
    if (flag !== undefined) flags |= flag;
    else if (spread !== undefined) propagation = spread;
    else data.push(option);
  }
  return { flags, data: data.join(','), propagation, recursive: options.includes('rbind') };
}
