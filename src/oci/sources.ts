import type { Digest } from '../core/digest.ts';
import { isAbort, LazypullError, throwIfAborted } from '../core/errors.ts';
import { Once } from '../core/once.ts';
import { connectPlace } from './connect.ts';
import { addTo, HttpError, isStatus } from './http-error.ts';
import { abortable } from './http.ts';
import type { Transport } from './http-transport.ts';
import { KeptManifests, Manifests } from './manifests.ts';
import type { HostSettings } from './hosts-file.ts';
import { findPlaces, type Place } from './mirrors.ts';
import type { Repository } from './reference.ts';
import { Referrers } from './referrers.ts';
import type { RegistryOptions } from './registry-options.ts';
import { RepositoryClient } from './repository.ts';

export interface Connected {
  readonly repository: RepositoryClient;
  readonly manifests: Manifests;
  readonly referrers: Referrers;
}

/** One place that a repository's content is read from. */
export interface Source {
  readonly place: Place;
  connect(signal?: AbortSignal): Promise<Connected>;
}

/** What is asked for: content by its digest, what a tag is, or what only the registry itself is asked while it answers. */
export type Question = 'content' | 'tag' | 'list';

interface Known {
  readonly source: Source;
  connected: Connected | undefined;
  /** Until when (ms) it is not asked for some content before others are: what it had was wrong, or it had nothing. */
  readonly avoid: Map<Digest, number>;
}

/** Wrong bytes, and content that was not there, are looked for again at the same place after this long, ms. */
const AVOID = 10 * 60_000;
const MAX_AVOIDED = 1000;
/** Reads of which it is known where they were answered. */
const REMEMBERED = 256;

/**
 * Where a repository is read from (registry.md §2, "Mirror rule"): the first place that has what is wanted answers. One that fails is
 * passed over for a while, and so is one whose bytes proved wrong, as far as the others have the same.
 */
export class Sources {
  readonly #repository: Repository;
  readonly #options: RegistryOptions;
  readonly #transport: Transport;
  readonly #hosts: Map<string, HostSettings>;
  readonly #warn: (text: string) => void;
  readonly #kept = new KeptManifests();
  readonly #found = new Once(() => this.#find());
  #known: readonly Known[] = [];
  readonly #answered: { readonly digest: Digest; readonly offset: number; readonly end: number; readonly by: Known }[] = [];

  constructor(repository: Repository, transport: Transport, hosts: Map<string, HostSettings>, options: RegistryOptions, warn: (text: string) => void) {
    this.#repository = repository;
    this.#transport = transport;
    this.#hosts = hosts;
    this.#options = options;
    this.#warn = warn;
  }

  /** For messages: `docker://host/repo`. */
  get location(): string {
    return `docker://${this.#repository.domain}/${this.#repository.path}`;
  }

  /** The registry itself. */
  async own(signal?: AbortSignal): Promise<Connected> {
    const found = await abortable(this.#found.get(), signal);
    return (found.find(({ source }) => source.place.own) as Known).source.connect(signal);
  }

  /** Where to ask, in order; never nobody. */
  async inOrder(question: Question, digest: Digest | undefined, signal?: AbortSignal): Promise<readonly Candidate[]> {
    const found = this.#order(await abortable(this.#found.get(), signal), question, digest);
    return found.map((known) => this.#candidate(known, digest, found.length));
  }

  /** Asks one after the other until one has answered. */
  async ask<T>(question: Question, digest: Digest | undefined, work: (connected: Connected, source: Source) => Promise<T>, signal?: AbortSignal, range?: Range): Promise<T> {
    const failures = new Failures();
    for (const candidate of await this.inOrder(question, digest, signal)) {
      try {
        const result = await work(await candidate.source.connect(signal), candidate.source);
        if (range) candidate.answered(range.offset, range.offset + range.length);
        return result;
      } catch (error) {
        candidate.failed(error, signal);
        failures.add(candidate.source, error);
      }
    }
    throw failures.error();
  }

  /**
   * Bytes that came from here were wrong: whoever gave them is not asked for this blob again before the others are. Tells whether it is
   * somebody else's turn now.
   */
  distrust(digest: Digest, offset: number, length: number): boolean {
    const end = offset + length;
    const { by } = this.#answered.findLast((one) => one.digest === digest && one.offset < end && one.end > offset) ?? {};
    if (!by) return false;
    const before = (by.avoid.get(digest) ?? 0) > performance.now();
    avoid(by, digest);
    if (!before) this.#tell(`${by.source.place.host} has wrong bytes of ${digest}: others are asked for it from now on`);
    return this.#order(this.#known, 'content', digest)[0] !== by;
  }

  #order(all: readonly Known[], question: Question, digest: Digest | undefined): readonly Known[] {
    const now = performance.now();
    // Of those that had wrong bytes the one is asked first that has had them longest ago.
    const until = (known: Known): number => (digest === undefined ? 0 : (known.avoid.get(digest) ?? 0));
    const rank = (known: Known): number => {
      const { place: { own, resolves } } = known.source;
      const late = question !== 'content' && !own && (question === 'list' || resolves === 'last') ? 1 : 0;
      return late + (until(known) > now ? 2 : 0) + (known.connected?.repository.http.health.down ? 4 : 0);
    };
    const fit = all.filter(({ source: { place } }) => place.own || (question === 'content' ? place.pulls : place.resolves !== 'never'));
    return fit.toSorted((a, b) => rank(a) - rank(b) || (until(a) > now ? until(a) - until(b) : 0));
  }

  #candidate(known: Known, digest: Digest | undefined, count: number): Candidate {
    return {
      source: known.source,
      answered: (offset, end) => {
        if (digest === undefined || count < 2) return;
        this.#answered.push({ digest, offset, end, by: known });
        if (this.#answered.length > REMEMBERED) this.#answered.shift();
      },
      failed: (error, signal) => {
        if (signal?.aborted || isAbort(error)) throw error;
        // A failure of our own would be the same elsewhere.
        if (count < 2 || !(error instanceof LazypullError) || ['USAGE', 'LIMIT', 'INTERNAL', 'IO'].includes(error.code)) throw error;
        const wrong = ['DIGEST_MISMATCH', 'SIZE_MISMATCH', 'CORRUPT'].includes(error.code);
        if (digest !== undefined && (wrong || isStatus(error, 404))) avoid(known, digest);
        if (wrong) this.#tell(`${known.source.place.host} has something wrong, others are asked for it: ${error.message}`);
      },
    };
  }

  /** Each time: what happens again hours later is news. */
  #tell(text: string): void {
    this.#options.onWarning?.(text);
  }

  async #find(): Promise<readonly Known[]> {
    const places = await findPlaces(this.#repository.domain, this.#options);
    for (const { host, settings } of places) if (!this.#hosts.has(host)) this.#hosts.set(host, settings);
    this.#known = places.map((place): Known => {
      const once = new Once(() => this.#connect(place, places.length > 1));
      const known: Known = {
        source: {
          place,
          connect: async (signal) => {
            throwIfAborted(signal);
            return (known.connected = await abortable(once.get(), signal));
          },
        },
        connected: undefined,
        avoid: new Map(),
      };
      return known;
    });
    return this.#known;
  }

  async #connect(place: Place, several: boolean): Promise<Connected> {
    const repository = this.#repository;
    const what = place.own ? place.host : `mirror ${place.host}`;
    const http = await connectPlace(place, repository, this.#transport, this.#options, {
      warn: this.#warn,
      ...(several && {
        onDown: (error) => this.#tell(`${what} does not answer, others are asked: ${error.message}`),
        onUp: (ms) => this.#tell(`${what} answers again, after ${Math.round(ms / 1000)} s`),
      }),
    });
    const client = new RepositoryClient(http, repository, this.#warn, { root: place.root, of: place.own ? undefined : repository.domain });
    const manifests = new Manifests(client, this.#kept, this.#options);
    return { repository: client, manifests, referrers: new Referrers(client, manifests) };
  }
}

export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** A place to ask, and what to tell about how that went. */
export interface Candidate {
  readonly source: Source;
  /** It gave these bytes. */
  answered(offset: number, end: number): void;
  /** Throws the error if nobody else need be asked. */
  failed(error: unknown, signal: AbortSignal | undefined): void;
}

/** What to say when nobody could help: what the registry said, and then the others. */
export class Failures {
  readonly #all: { readonly source: Source; readonly error: unknown }[] = [];

  add(source: Source, error: unknown): void {
    this.#all.push({ source, error });
  }

  error(): unknown {
    const decisive = this.#all.find(({ source }) => source.place.own) ?? this.#all[0];
    const others = this.#all.filter((one) => one !== decisive).map(({ source, error }) => `mirror ${source.place.host}: ${error instanceof HttpError ? error.bare : error instanceof Error ? error.message : String(error)}`);
    return others.length === 0 ? decisive?.error : addTo(decisive?.error, `; ${others.join('; ')}`);
  }
}

function avoid({ avoid: avoided }: Known, digest: Digest): void {
  avoided.delete(digest);
  avoided.set(digest, performance.now() + AVOID);
  const oldest = avoided.keys().next();
  if (avoided.size > MAX_AVOIDED && !oldest.done) avoided.delete(oldest.value);
}
