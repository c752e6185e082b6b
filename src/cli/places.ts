import { LazypullError } from '../core/errors.ts';
import { openLocation, parseLocation, type OpenedLocation } from '../oci/location.ts';
import type { App } from './app.ts';
import type { Output } from './output.ts';
import { readPasswords, registryOptions, type Passwords, type RegistryFlags, type Side } from './registry-flags.ts';

export interface PlaceOptions {
  /** Which end this is, for commands with flags for each. */
  readonly side?: Side;
  /** A layout folder may be made. */
  readonly create?: boolean;
}

/** Opens the locations that a command was given with the flags it was given, and closes them when it is done. */
export class Places {
  readonly #app: App;
  readonly #out: Output;
  readonly #flags: RegistryFlags;
  readonly #passwords: Passwords;
  readonly #opened: OpenedLocation[] = [];

  private constructor(app: App, out: Output, flags: RegistryFlags, passwords: Passwords) {
    this.#app = app;
    this.#out = out;
    this.#flags = flags;
    this.#passwords = passwords;
  }

  static async use<T>(app: App, out: Output, flags: RegistryFlags, work: (places: Places) => Promise<T>): Promise<T> {
    const places = new Places(app, out, flags, await readPasswords(flags, app.io));
    try {
      return await work(places);
    } finally {
      // The command's own error is the one to hear about.
      await Promise.allSettled(places.#opened.map(({ store }) => store.close()));
    }
  }

  async open(text: string, options: PlaceOptions = {}): Promise<OpenedLocation> {
    const location = parseLocation(text);
    if (location.transport === 'docker') this.#keepLoginsApart(location.reference.domain);
    const opened = await openLocation(location, {
      ...registryOptions(this.#flags, this.#passwords, options.side),
      env: this.#app.io.env,
      onWarning: (warning) => this.#out.warn(warning),
      ...(options.create ? { create: true } : {}),
    });
    this.#opened.push(opened);
    return opened;
  }

  /** One registry's password must not be sent to another one. */
  #keepLoginsApart(domain: string): void {
    if (!this.#passwords.has('both')) return;
    const other = this.#opened.find(({ location }) => location.transport === 'docker' && location.reference.domain !== domain);
    if (other?.location.transport !== 'docker') return;
    throw new LazypullError('USAGE', `--username is for one registry, but ${other.location.reference.domain} and ${domain} are two: use --authfile, or --src-username and --dst-username where the command has them`);
  }
}
