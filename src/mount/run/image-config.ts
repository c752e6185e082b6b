import * as z from 'zod';
import { corrupt, printable } from '../../core/errors.ts';
import type { ImageConfig } from '../../oci/documents.ts';

/** What an image's config says about running it (image-spec 1.1 config.md, `config`). Exposed ports mean nothing here. */
export interface RunConfig {
  /** `NAME=value`, as they stand. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** `user[:group]`, names or numbers; empty for root. */
  readonly user: string;
  readonly workingDir: string;
  /** Name or number; undefined for SIGTERM. */
  readonly stopSignal: string | undefined;
  /** Paths whose content is to stay writable and to go with the container. */
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly os: string | undefined;
  readonly architecture: string | undefined;
  readonly variant: string | undefined;
  readonly created: string | undefined;
  readonly author: string | undefined;
}

// Go writes nil maps and slices as null; the oldest builders wrote a single word in place of a list of one.
const words = z.union([z.array(z.string()), z.string().transform((word) => [word])]).nullish().transform((list) => list ?? []);
const word = z.string().nullish().transform((text) => text || undefined);

const shape = z.looseObject({
  config: z.looseObject({
    Env: z.array(z.string()).nullish().transform((list) => list ?? []),
    Entrypoint: words,
    Cmd: words,
    User: word,
    WorkingDir: word,
    StopSignal: word,
    Volumes: z.record(z.string(), z.unknown()).nullish().transform((map) => Object.keys(map ?? {}).sort()),
    Labels: z.record(z.string(), z.string()).nullish().transform((map) => map ?? {}),
  }).nullish(),
  os: word,
  architecture: word,
  variant: word,
  created: word,
  author: word,
});

/** Reads it; CORRUPT when something has the wrong type. */
export function runConfig(document: ImageConfig): RunConfig {
  const parsed = shape.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw corrupt(`image config is malformed: ${printable(issue?.path.map(String).join('.') ?? '')}: ${printable(issue?.message ?? '')}`);
  }
  const { config, os, architecture, variant, created, author } = parsed.data;
  return {
    env: config?.Env ?? [],
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    user: config?.User ?? '',
    workingDir: config?.WorkingDir ?? '',
    stopSignal: config?.StopSignal,
    volumes: config?.Volumes ?? [],
    labels: config?.Labels ?? {},
    os,
    architecture,
    variant,
    created,
    author,
  };
}
