import type { Http } from './http.ts';
import type { Repository } from './reference.ts';
import { repositoryScope, type Scope } from './scopes.ts';

/** One repository as the parts of the client see it. */
export class RepositoryClient {
  readonly http: Http;
  readonly path: string;
  /** For messages: `docker://host/repo`. */
  readonly location: string;
  /** Takes remarks for the user. */
  readonly warn: (text: string) => void;
  readonly pull: readonly Scope[];
  readonly push: readonly Scope[];
  readonly #root: string;
  readonly #of: string | undefined;

  /** `root` is what the API's paths begin with. A mirror is told what registry it stands for: `of`. */
  constructor(http: Http, repository: Repository, warn: (text: string) => void, { root = '/v2', of }: { readonly root?: string; readonly of?: string | undefined } = {}) {
    this.http = http;
    this.#root = root;
    this.#of = of;
    this.path = repository.path;
    this.location = `docker://${repository.domain}/${repository.path}`;
    this.warn = warn;
    this.pull = [repositoryScope(this.path, 'pull')];
    this.push = [repositoryScope(this.path, 'pull', 'push')];
  }

  /** An address below the repository: `blobs/sha256:…`. */
  url(rest: string): URL {
    const url = new URL(`${this.#root}/${this.path}/${rest}`, this.http.registry);
    if (this.#of !== undefined) url.searchParams.set('ns', this.#of);
    return url;
  }
}
