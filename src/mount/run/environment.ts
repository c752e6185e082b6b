import { LazypullError, printable } from '../../core/errors.ts';

/** A variable with its new value; undefined takes it away. */
export type Assignment = readonly [name: string, value: string | undefined];

type Environment = Readonly<Record<string, string | undefined>>;

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `NAME=value`, or `NAME` alone for the value that it has in our own environment; without one there it is taken away. */
export function parseAssignment(text: string, own: Environment, what = '-e'): Assignment {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  if (name === '' || text.includes('\0')) throw new LazypullError('USAGE', `${what}: no name of a variable in ${printable(JSON.stringify(text.slice(0, 100)))}`);
  if (/\s/.test(name)) throw new LazypullError('USAGE', `${what}: blanks in the name of a variable: ${printable(JSON.stringify(name.slice(0, 100)))}`);
  return [name, equals < 0 ? own[name] : text.slice(equals + 1)];
}

/** One assignment per line, values taken as they are; empty lines and those that begin with # are skipped. */
export function parseEnvFile(text: string, own: Environment, path: string): readonly Assignment[] {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  return lines.flatMap((line, i) => {
    const trimmed = line.trimStart();
    return trimmed === '' || trimmed.startsWith('#') ? [] : [parseAssignment(trimmed, own, `${path} line ${i + 1}`)];
  });
}

export interface EnvironmentParts {
  /** Of the image, `NAME=value`. */
  readonly image: readonly string[];
  /** What holds unless the image says otherwise. */
  readonly defaults: readonly Assignment[];
  /** What the user wants, the later over the earlier. */
  readonly wanted: readonly Assignment[];
  readonly home: string;
}

export interface MergedEnvironment {
  /** `NAME=value`, each name once. */
  readonly env: readonly string[];
  /** Of the image, and no assignment. */
  readonly ignored: readonly string[];
}

/** The environment of the container's process. HOME is that of the user unless somebody says otherwise. */
export function mergeEnvironment(parts: EnvironmentParts): MergedEnvironment {
  const all = new Map<string, string>([['PATH', DEFAULT_PATH]]);
  const ignored: string[] = [];
  const set = ([name, value]: Assignment): void => {
    if (value === undefined) all.delete(name);
    else all.set(name, value);
  };
  for (const assignment of parts.defaults) set(assignment);
  for (const text of parts.image) {
    const equals = text.indexOf('=');
    if (equals <= 0 || text.includes('\0')) ignored.push(text);
    else set([text.slice(0, equals), text.slice(equals + 1)]);
  }
  for (const assignment of parts.wanted) set(assignment);
  if (!all.get('HOME')) all.set('HOME', parts.home);
  return { env: [...all].map(([name, value]) => `${name}=${value}`), ignored };
}

/** Value of a variable in a list of `NAME=value`. */
export function valueOf(env: readonly string[], name: string): string | undefined {
  return env.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
}
