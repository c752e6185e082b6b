import type { RetryOptions } from './retry.ts';

/** How a registry is reached. Everything has a default that suits a public registry. */
export interface RegistryOptions {
  /** Talk HTTP. Without it only a loopback host is tried by HTTP, when HTTPS fails there. */
  readonly plainHttp?: boolean;
  /** A PEM file with certificates that are trusted besides the system's. */
  readonly tlsCa?: string;
  /** Accept any certificate. */
  readonly tlsSkipVerify?: boolean;
  /** Goes before every credentials file. */
  readonly creds?: { readonly username: string; readonly password: string };
  /** The only credentials file that is read, in the form of docker's config.json. */
  readonly authFile?: string;
  /** Requests at a time; default 3. Streams that wait for their reader do not count. */
  readonly concurrency?: number;
  /**
   * Where content is looked for before the registry is asked: `[REGISTRY=]HOST` or `[REGISTRY=]URL` each. What comes from there is held
   * against the image's digests like everything else. Nothing is written to them.
   */
  readonly mirrors?: readonly string[];
  /** Ask the registry only, whatever mirrors there are. */
  readonly direct?: boolean;
  /** Folder of containerd's hosts.toml files; default: where containerd and nerdctl look. */
  readonly hostsDir?: string;
  /** What a name leads to will be read at once: it is asked for whole (GET) instead of by its digest first (HEAD), which saves a round trip. */
  readonly readsNamed?: boolean;
  readonly userAgent?: string;
  /** Takes each distinct thing the registry says in a `Warning` header, and our own remarks about it, once. */
  readonly onWarning?: (text: string) => void;
  readonly retry?: RetryOptions;
  readonly timeouts?: Partial<Timeouts>;
  /** Environment for proxies and credentials; default `process.env`. */
  readonly env?: Environment;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Milliseconds. There is no limit on a whole transfer. */
export interface Timeouts {
  /** Until a connection stands, TLS included; default 10 000. */
  readonly connect: number;
  /** From the end of a request to its answer's headers; default 30 000. */
  readonly firstByte: number;
  /** Between two pieces of a body; default 30 000. */
  readonly idle: number;
}
