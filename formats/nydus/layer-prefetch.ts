import type { LayerInput } from '../../src/core/format.ts';
import type { ByteStream, DirectoryNode, FileNode } from '../../src/core/types.ts';
import { matcherOf, type Matcher } from '../../src/layer/glob.ts';
import { compareNames, walk } from '../../src/layer/walk.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { type AsideEntry, PutAside } from '../../src/tar/put-aside.ts';

/** What the first pass saw under a path; of several entries the last one counts. */
interface Seen {
  readonly ordinal: number;
  readonly type: TarEntry['type'];
  /** Clean path of a hard link's target. */
  readonly target: string;
}

/**
 * The files of a layer whose chunks go in front of all others, in the order of a list. Their payloads are put aside in a first
 * pass over the layer; a second one is needed only for targets of listed hard links.
 */
export class Prefetched {
  readonly #aside = new PutAside();
  /** Places of the files' entries in the archive, counted in entries. */
  #order: readonly number[] = [];
  /** Lines of the list that nothing in the layer matches. */
  readonly unmatched: string[] = [];

  /** Without patterns nothing is read. */
  static async collect(input: LayerInput, patterns: readonly string[], signal?: AbortSignal): Promise<Prefetched> {
    const prefetched = new Prefetched();
    if (patterns.length === 0) return prefetched;
    try {
      await prefetched.#collect(input, listOf(patterns), signal);
    } catch (error) {
      await prefetched.close();
      throw error;
    }
    return prefetched;
  }

  /** The files in order, with their payloads. */
  *files(): Generator<{ readonly entry: TarEntry; readonly ordinal: number; readonly body: ByteStream }> {
    for (const ordinal of this.#order) {
      const { entry, body } = this.#aside.get(ordinal) as AsideEntry;
      yield { entry, ordinal, body: body() };
    }
  }

  async close(): Promise<void> {
    await this.#aside.close();
  }

  async #collect(input: LayerInput, list: readonly Matcher[], signal: AbortSignal | undefined): Promise<void> {
    const wanted = new PathMatch(list);
    const seen = new Map<string, Seen>();
    const listed = (path: string, entry: TarEntry, ordinal: number): boolean => {
      seen.set(path, { ordinal, type: entry.type, target: entry.type === 'hardlink' ? cleanPath(entry.linkName) : '' });
      return wanted.find(path).length > 0 && hasContent(entry);
    };
    await this.#aside.collect(input, listed, signal);
    const matches = list.map((): string[] => []);
    for (const path of seen.keys()) for (const line of wanted.find(path)) matches[line]?.push(path);
    const order = new Set<number>();
    for (const [line, paths] of matches.entries()) {
      // The root means everything, which is in front already.
      if (paths.length === 0 && list[line]?.literal !== '') this.unmatched.push((list[line] as Matcher).pattern);
      for (const path of paths.sort(compareNames)) {
        const ordinal = ordinalOf(seen, path);
        if (ordinal !== undefined) order.add(ordinal);
      }
    }
    const missing = new Set([...order].filter((ordinal) => !this.#aside.get(ordinal)));
    if (missing.size > 0) await this.#aside.collect(input, (_path, entry, ordinal) => missing.has(ordinal) && hasContent(entry), signal);
    this.#order = [...order].filter((ordinal) => this.#aside.get(ordinal));
  }
}

function hasContent({ type, size }: TarEntry): boolean {
  return type === 'file' && size > 0;
}

/** The file behind a path, hard links followed as far as they go inside the layer. */
function ordinalOf(seen: ReadonlyMap<string, Seen>, path: string): number | undefined {
  let found = seen.get(path);
  for (let steps = 0; found?.type === 'hardlink' && steps < seen.size; steps += 1) found = seen.get(found.target);
  return found?.type === 'file' ? found.ordinal : undefined;
}

/** Which lines of a list a path matches: by itself, or because a directory above it does. */
class PathMatch {
  readonly #list: readonly Matcher[];
  /** Of directories above paths so far. */
  readonly #known = new Map<string, readonly number[]>();

  constructor(list: readonly Matcher[]) {
    this.#list = list;
  }

  find(path: string): readonly number[] {
    if (path === '') return NONE;
    const slash = path.lastIndexOf('/');
    const above = slash < 0 ? NONE : this.#above(path.slice(0, slash));
    const own: number[] = [];
    for (const [line, { literal, glob }] of this.#list.entries()) if (!above.includes(line) && (literal === path || glob(path))) own.push(line);
    return own.length === 0 ? above : [...above, ...own];
  }

  #above(directory: string): readonly number[] {
    let found = this.#known.get(directory);
    if (!found) this.#known.set(directory, (found = this.find(directory)));
    return found;
  }
}

const NONE: readonly number[] = [];

function listOf(patterns: readonly string[]): Matcher[] {
  return patterns.map((pattern) => matcherOf(pattern, cleanPath(pattern)));
}

/** What a list names in a tree: for the prefetch table, where a directory stands for all below it. */
export interface PrefetchNodes {
  /** In the list's order, each once. */
  readonly nodes: readonly FileNode[];
  /** Lines that nothing matches. */
  readonly unmatched: readonly string[];
}

export function prefetchNodes(root: DirectoryNode, patterns: readonly string[]): PrefetchNodes {
  if (patterns.length === 0) return { nodes: [], unmatched: [] };
  const list = listOf(patterns);
  const matches = list.map((): { readonly path: string; readonly node: FileNode }[] => []);
  for (const { path, node } of walk(root)) {
    for (const [line, { literal, glob }] of list.entries()) if (literal === path || (path !== '' && glob(path))) matches[line]?.push({ path, node });
  }
  const nodes = matches.flatMap((found) => found.sort((a, b) => compareNames(a.path, b.path)).map(({ node }) => node));
  return { nodes: [...new Set(nodes)], unmatched: patterns.filter((_, line) => matches[line]?.length === 0) };
}

export function unmatchedNote(pattern: string): string {
  return `nothing matches ${JSON.stringify(pattern)} of the prefetch list`;
}
