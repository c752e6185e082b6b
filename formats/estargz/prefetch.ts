import { LazypullError } from '../../src/core/errors.ts';
import type { LayerInput } from '../../src/core/format.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { matcherOf, type Matcher } from '../../src/layer/glob.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { type AsideEntry, PutAside } from '../../src/tar/put-aside.ts';
import { RESERVED_NAMES } from './layout.ts';

/** A path as the first pass saw it. */
interface Seen {
  readonly path: string;
  /** Clean path of the target, if the path's last entry is a hard link. */
  target: string | undefined;
  /** Places of its entries in the archive, counted in entries; the last one replaces the others. */
  readonly ordinals: number[];
}

/**
 * The files that go in front of all others (§7.1). Their payloads are put aside in a first pass over the layer; a second
 * one is needed only for targets of listed hard links.
 */
export class Prefetched {
  readonly #aside = new PutAside();
  readonly #order: Seen[] = [];
  readonly #skip = new Set<number>();
  /** Lines of the list that nothing in the layer matches. */
  readonly unmatched: string[] = [];

  /** Without patterns nothing is read. */
  static async collect(input: LayerInput, patterns: readonly string[], signal?: AbortSignal): Promise<Prefetched> {
    const prefetched = new Prefetched();
    if (patterns.length > 0) {
      try {
        await prefetched.#collect(input, patterns, signal);
      } catch (error) {
        await prefetched.close();
        throw error;
      }
    }
    return prefetched;
  }

  /** Entries that go in front. */
  get size(): number {
    return this.#order.length;
  }

  /** Whether the archive's n-th entry is among them, or replaced by one of them. */
  has(ordinal: number): boolean {
    return this.#skip.has(ordinal);
  }

  /** The entries with their payloads, in the order of the list. */
  async *entries(): AsyncGenerator<{ entry: TarEntry; body: ByteStream }> {
    for (const seen of this.#order) {
      const { entry, body } = this.#aside.get(lastOf(seen)) as AsideEntry;
      yield { entry, body: body() };
    }
  }

  async close(): Promise<void> {
    await this.#aside.close();
  }

  async #collect(input: LayerInput, patterns: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const matchers = patterns.map((pattern) => matcherOf(pattern, cleanPath(pattern)));
    const seen = new Map<string, Seen>();
    const linked = new Set<string>();
    const listed = (path: string, entry: TarEntry, ordinal: number): boolean => {
      if (RESERVED_NAMES.includes(path)) return false;
      const target = entry.type === 'hardlink' ? cleanPath(entry.linkName) : undefined;
      if (target !== undefined) linked.add(target);
      const known = seen.get(path) ?? { path, target, ordinals: [] };
      known.target = target;
      known.ordinals.push(ordinal);
      seen.set(path, known);
      return matchers.some((matcher) => matcher.literal === path || matcher.glob(path));
    };
    await this.#aside.collect(input, listed, signal);
    this.#arrange(seen, matchers);
    for (const { path, ordinals } of this.#order) {
      if (ordinals.length > 1 && linked.has(path)) {
        throw new LazypullError('UNSUPPORTED', 'an entry that hard links point to is replaced later in the layer', { path });
      }
    }
    const missing = new Set(this.#order.map(lastOf).filter((ordinal) => !this.#aside.get(ordinal)));
    if (missing.size > 0) await this.#aside.collect(input, (_path, _entry, ordinal) => missing.has(ordinal), signal);
    for (const { ordinals } of this.#order) for (const ordinal of ordinals) this.#skip.add(ordinal);
  }

  /** List order; matches of one glob sorted bytewise; parents before children, link targets before links; each once. */
  #arrange(seen: ReadonlyMap<string, Seen>, matchers: readonly Matcher[]): void {
    const placed = new Set<string>();
    const place = (wanted: string): void => {
      // A path that is still to be looked at, or one whose turn comes after all that it needs. A stack of our own: a
      // stranger's links may lead to links for as long as they like.
      const todo: (string | Seen)[] = [wanted];
      for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
        if (typeof next !== 'string') {
          this.#order.push(next);
          continue;
        }
        const entry = seen.get(next);
        if (!entry || placed.has(next)) continue;
        placed.add(next);
        todo.push(entry);
        if (entry.target !== undefined) todo.push(entry.target);
        for (let slash = next.lastIndexOf('/'); slash > 0; slash = next.lastIndexOf('/', slash - 1)) todo.push(next.slice(0, slash));
      }
    };
    for (const { pattern, literal, glob } of matchers) {
      const paths = seen.has(literal) ? [literal] : [...seen.keys()].filter((path) => path !== '' && glob(path));
      // The root comes first of all if the archive has it.
      if (paths.length > 0) place('');
      else this.unmatched.push(pattern);
      for (const path of paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) place(path);
    }
  }
}

function lastOf({ ordinals }: Seen): number {
  return ordinals.at(-1) as number;
}
