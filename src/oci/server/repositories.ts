import { basename, resolve } from 'node:path';
import type { Digest } from '../../core/digest.ts';
import type { Descriptor } from '../../core/types.ts';
import { CONTAINERD_NAME, REF_NAME, type IndexEntry } from '../layout-index.ts';
import { isUnnamed, point, withoutNames } from '../layout-names.ts';
import type { LayoutStore } from '../layout.ts';
import { checkRepository, isTag } from '../reference.ts';

/** A tag in a repository. */
interface Place {
  readonly repository: string;
  readonly tag: string;
}

/**
 * The repositories of a layout. An entry's name says where it is served:
 *
 * | `ref.name` in index.json          | repository                    | tag      |
 * |-----------------------------------|-------------------------------|----------|
 * | `1.0`                             | the base: the folder's name   | `1.0`    |
 * | `team/app:1.0`                    | `team/app`                    | `1.0`    |
 * | `docker.io/library/alpine:3.20`   | `library/alpine`              | `3.20`   |
 * | `team/app`                        | `team/app`                    | `latest` |
 *
 * `io.containerd.image.name` is read in the same way. A push writes the bare tag in the base repository and
 * `repository:tag` elsewhere, so that `oci:./layout:1.0` is `host/layout:1.0` and `oci:./layout:team/app:1.0` is
 * `host/team/app:1.0`. Content is shared by all repositories.
 */
export class Repositories {
  readonly base: string;
  readonly #layout: LayoutStore;

  constructor(layout: LayoutStore) {
    this.#layout = layout;
    this.base = baseName(layout.folder);
  }

  async find(repository: string, tag: string): Promise<Descriptor | undefined> {
    const entries = await this.#layout.index.read();
    const at = (name: string | undefined): boolean => this.#isAt(name, { repository, tag });
    const entry = entries.find(({ name }) => at(name)) ?? entries.find(({ fullName }) => at(fullName));
    return entry?.descriptor && withoutNames(entry.descriptor);
  }

  /** Sorted; undefined when nothing is in the repository. */
  async tags(repository: string): Promise<string[] | undefined> {
    const tags = new Set<string>();
    for (const place of await this.#places()) if (place.repository === repository) tags.add(place.tag);
    return tags.size > 0 ? [...tags].sort() : undefined;
  }

  async list(): Promise<string[]> {
    return [...new Set((await this.#places()).map(({ repository }) => repository))].sort();
  }

  /** Points a tag at stored content, whatever had it before. */
  async point(repository: string, tag: string, descriptor: Descriptor, referrer: boolean): Promise<void> {
    await this.#layout.index.update((entries) => {
      const before = entries.find(({ name }) => this.#isAt(name, { repository, tag }))?.name;
      return point(entries, before ?? (repository === this.base ? tag : `${repository}:${tag}`), descriptor, { referrer });
    });
  }

  /** Whether the tag was there. */
  async removeTag(repository: string, tag: string): Promise<boolean> {
    return this.#remove((name) => this.#isAt(name, { repository, tag }), undefined);
  }

  /** Takes a manifest out of a repository: its tags there, and its unnamed entry. Whether there were any. */
  async removeDigest(repository: string, digest: Digest): Promise<boolean> {
    return this.#remove((name) => this.#place(name)?.repository === repository, digest);
  }

  async #remove(hit: (name: string | undefined) => boolean, digest: Digest | undefined): Promise<boolean> {
    let removed = false;
    await this.#layout.index.update((entries) => {
      const kept = entries.flatMap((entry) => {
        if (digest !== undefined && entry.descriptor?.digest !== digest) return [entry.raw];
        if ((digest !== undefined && isUnnamed(entry)) || hit(entry.name)) return [];
        if (!hit(entry.fullName)) return [entry.raw];
        return entry.name === undefined ? [] : [withoutAnnotation(entry, CONTAINERD_NAME)];
      });
      removed = kept.length < entries.length || kept.some((raw, i) => raw !== entries[i]?.raw);
      return removed ? kept : undefined;
    });
    return removed;
  }

  async #places(): Promise<Place[]> {
    const entries = await this.#layout.index.read();
    return entries.flatMap(({ name, fullName }) => [this.#place(name), this.#place(fullName)].filter((place) => place !== undefined));
  }

  #isAt(name: string | undefined, wanted: Place): boolean {
    const place = this.#place(name);
    return place?.tag === wanted.tag && place.repository === wanted.repository;
  }

  #place(name: string | undefined): Place | undefined {
    if (name === undefined) return undefined;
    if (isTag(name)) return { repository: this.base, tag: name };
    const colon = name.indexOf(':', name.lastIndexOf('/') + 1);
    const tag = colon < 0 ? 'latest' : name.slice(colon + 1);
    const whole = colon < 0 ? name : name.slice(0, colon);
    const slash = whole.indexOf('/');
    const head = whole.slice(0, Math.max(slash, 0));
    const repository = head === 'localhost' || /[.:]/.test(head) ? whole.slice(slash + 1) : whole;
    return isTag(tag) && isRepository(repository) ? { repository, tag } : undefined;
  }
}

export function isRepository(path: string): boolean {
  try {
    checkRepository({ domain: 'localhost', path });
    return true;
  } catch {
    return false;
  }
}

/** The layout folder's name as a repository: `./My Images` is `my-images`. */
function baseName(folder: string): string {
  const name = basename(resolve(folder)).toLowerCase().replace(/[^a-z0-9._-]+/g, '-');
  const path = name.replace(/[._-]*([._-])[._-]*/g, (run, last: string) => (/^(?:__|-+)$/.test(run) ? run : last)).replace(/^[._-]+|[._-]+$/g, '');
  return isRepository(path) ? path : 'layout';
}

function withoutAnnotation(entry: IndexEntry, key: typeof REF_NAME | typeof CONTAINERD_NAME): unknown {
  const raw = entry.raw as { annotations?: Record<string, string> };
  const { [key]: _gone, ...annotations } = raw.annotations ?? {};
  return { ...raw, annotations };
}
