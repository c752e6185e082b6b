import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import type { Descriptor } from '../core/types.ts';
import { CONTAINERD_NAME, REF_NAME, type IndexEntry } from './layout-index.ts';

/** image-spec 1.1 annotations.md allows more than a tag in `ref.name`: `app:1`, `host/app:1`. Never what looks like a path. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,254}$/;
/** The tags under which tools keep lists of referrers and signatures (`sha256-<hex>`, `sha256-<hex>.sig`). */
const ATTACHED = /(?:^|:)sha(?:256|512)-[0-9a-f]{64}(?:$|\.)/;

export function checkName(name: string): string {
  if (NAME.test(name) && !isDigest(name)) return name;
  throw new LazypullError('USAGE', `not a name for an image in a layout: ${printable(name.slice(0, 140))}`);
}

/** Whether an entry is kept for another one's sake: no answer to "the image of this layout". */
export function isAttachedName(name: string | undefined): boolean {
  return name !== undefined && ATTACHED.test(name);
}

/**
 * The entry of a name: by `ref.name`, then by containerd's full name, then as the tag at the end of a full name, if that
 * is unique. Among equal names the first wins, as in the other tools.
 */
export function findByName(entries: readonly IndexEntry[], name: string): IndexEntry | undefined {
  const exact = entries.find((entry) => entry.name === name) ?? entries.find((entry) => entry.fullName === name);
  if (exact || name.includes('/') || name.includes(':')) return exact;
  const [first, ...others] = entries.filter(({ name: short, fullName }) => short?.endsWith(`:${name}`) || fullName?.endsWith(`:${name}`));
  return others.every((other) => other.descriptor?.digest === first?.descriptor?.digest) ? first : undefined;
}

/** What a user can ask for, sorted; the entries' own names only. */
export function listNames(entries: readonly IndexEntry[]): string[] {
  const names = new Set<string>();
  for (const { descriptor, name, fullName } of entries) {
    const shown = name ?? fullName;
    if (descriptor && shown !== undefined) names.add(shown);
  }
  return [...names].sort();
}

/** The descriptor without the names that its place in `index.json` gave it. */
export function withoutNames(descriptor: Descriptor): Descriptor {
  if (!descriptor.annotations) return descriptor;
  const { annotations, ...rest } = descriptor;
  const { [REF_NAME]: _name, [CONTAINERD_NAME]: _fullName, ...others } = annotations;
  return Object.keys(others).length > 0 ? { ...rest, annotations: others } : rest;
}

export interface PointOptions {
  /** Unnamed entries that give way to the new one, when it has no name either. */
  readonly displaced?: readonly IndexEntry[];
  /** The content is a referrer: its unnamed entry stays, so that losing the name does not lose the content. */
  readonly referrer?: boolean;
}

/**
 * The list with `name` (or no name, '') pointing at `descriptor`. The entry that had the name is replaced in its place,
 * keeping what we do not know when the content is the same; an unnamed entry of the same content takes the name on.
 * Undefined when all is so already.
 */
export function point(entries: readonly IndexEntry[], name: string, descriptor: Descriptor, options: PointOptions = {}): readonly unknown[] | undefined {
  const same = (entry: IndexEntry): boolean => entry.descriptor?.digest === descriptor.digest;
  const takesName = (entry: IndexEntry): boolean => same(entry) && isUnnamed(entry) && (name === '' || !options.referrer);
  const named = name === '' ? (options.displaced ?? []) : entries.filter((entry) => entry.name === name);
  const kept = entries.find((entry) => same(entry) && named.includes(entry)) ?? entries.find(takesName);
  const place = named[0] ?? kept;
  const raw = merge(kept?.raw, name, descriptor);
  if (place && kept === place && named.length <= 1 && JSON.stringify(raw) === JSON.stringify(place.raw)) return undefined;
  const rest = entries.filter((entry) => entry === place || (entry !== kept && !named.includes(entry)));
  return place ? rest.map((entry) => (entry === place ? raw : entry.raw)) : [...rest.map((entry) => entry.raw), raw];
}

/** The list with an entry for content that has no name of its own but must stay reachable (referrers). */
export function list(entries: readonly IndexEntry[], descriptor: Descriptor): readonly unknown[] | undefined {
  if (entries.some((entry) => isUnnamed(entry) && entry.descriptor?.digest === descriptor.digest)) return undefined;
  return [...entries.map((entry) => entry.raw), merge(undefined, '', descriptor)];
}

/** The descriptor by which some entry lists a digest. */
export function listed(entries: readonly IndexEntry[], digest: Digest): Descriptor | undefined {
  return entries.find((entry) => entry.descriptor?.digest === digest)?.descriptor;
}

export function isUnnamed(entry: IndexEntry): boolean {
  return entry.name === undefined && entry.fullName === undefined;
}

function merge(old: unknown, name: string, descriptor: Descriptor): Record<string, unknown> {
  const { mediaType, digest, size, artifactType, platform } = descriptor;
  const before = (old ?? {}) as { annotations?: Record<string, string> };
  const annotations = { ...before.annotations, ...withoutNames(descriptor).annotations, ...(name !== '' && { [REF_NAME]: name }) };
  return {
    ...before,
    mediaType,
    digest,
    size,
    ...(artifactType !== undefined && { artifactType }),
    ...(platform && { platform }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
}
