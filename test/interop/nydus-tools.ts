import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findTool, must, run, scratch, serve, type Ran, type Scope } from '../support/peers.ts';
import { root } from '../support/root.ts';

/** Nydus' own software: its published crates behind test/interop/nydus-crates, and `nydus-image` and `nydusd` where they are installed. */
export interface NydusTools {
  readonly name: string;
  /** A program and its arguments, for measuring: the verbs and flags are those of `nydus-image`. */
  command(...args: readonly string[]): readonly [program: string, ...args: readonly string[]];
  /** `create` or `merge`; `stdin` is for `--prefetch-policy`. A status other than 0 fails. */
  build(args: readonly string[], stdin?: string): Promise<void>;
  /** As `build`, for what may fail. */
  attempt(args: readonly string[]): Promise<Ran>;
  /** Loads a bootstrap and walks its tree; says which blobs it names. */
  check(bootstrap: string): Promise<readonly string[]>;
  /** Serves a bootstrap by FUSE until `leave` or the end of the test. `blobs`: folder with the blobs, named by their ids. Digests of chunks are checked on reading. */
  mount(t: Scope, bootstrap: string, blobs: string, at: string): Promise<{ leave(): Promise<void> }>;
}

/** Milliseconds between looks at what is mounted. */
const POLL = 200;

/** All that can be had; a reason instead when there are none. */
export async function openNydusTools(t: Scope): Promise<readonly NydusTools[] | string> {
  const image = findTool('nydus-image');
  const daemon = findTool('nydusd');
  const installed = image !== undefined && daemon !== undefined ? [tools(`${image} and nydusd`, image, [daemon, '--log-level', 'warn', '--rlimit-nofile', '0'])] : [];
  const crates = await buildNydusCrates(t);
  if (crates.program !== undefined) return [tools("Nydus' crates", crates.program, [crates.program, 'mount']), ...installed];
  return installed.length > 0 ? installed : `nydus-image and nydusd are not installed, and ${crates.reason}`;
}

/** Whether FUSE can be used; a visible skip otherwise. */
export function haveFuse(t: Scope): boolean {
  if (existsSync('/dev/fuse') && process.getuid?.() === 0) return true;
  t.skip('mounting needs root and /dev/fuse');
  return false;
}

function tools(name: string, program: string, daemon: readonly string[]): NydusTools {
  const build = async (args: readonly string[], stdin = ''): Promise<void> => void (await must(program, args, { timeout: 600_000, input: Buffer.from(stdin) }));
  return {
    name,
    command: (...args) => [program, ...args],
    build,
    attempt: (args) => run(program, args, { timeout: 600_000 }),
    async check(bootstrap) {
      const { text } = await must(program, ['check', '--bootstrap', bootstrap]);
      // One prints JSON, the other a line per blob.
      if (text.startsWith('{')) return (JSON.parse(text) as { blobs: { id: string }[] }).blobs.map(({ id }) => id);
      return [...text.matchAll(/^\s*\d+: (\S+), compressed size/gm)].map(([, id = '']) => id);
    },
    async mount(t, bootstrap, blobs, at) {
      const work = scratch(t);
      const config = join(work, 'config.json');
      const cache = join(work, 'cache');
      mkdirSync(cache);
      mkdirSync(at, { recursive: true });
      writeFileSync(config, JSON.stringify({
        version: 2,
        id: 'image',
        backend: { type: 'localfs', localfs: { dir: blobs } },
        cache: { type: 'filecache', validate: true, filecache: { work_dir: cache } },
        rafs: { mode: 'direct', enable_xattr: true },
      }));
      const [first = '', ...rest] = daemon;
      const service = serve(t, first, [...rest, '--config', config, '--bootstrap', bootstrap, '--mountpoint', at], /^\{"mounted"/m);
      // nydusd says nothing when it is ready.
      const mounted = rest[0] === 'mount' ? service : Promise.race([service, appears(at)]);
      await mounted;
      void service.catch(() => undefined);
      return {
        async leave() {
          await must('umount', [at]);
        },
      };
    },
  };
}

async function appears(at: string): Promise<void> {
  for (;;) {
    if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${at} fuse`)) return;
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

export type CargoProgram = { readonly program: string; readonly reason?: undefined } | { readonly program?: undefined; readonly reason: string };

let building: Promise<CargoProgram> | undefined;

/**
 * Builds test/interop/nydus-crates, once, below .build: about two minutes of one core the first time. Only a missing cargo or missing
 * crates are reasons to skip; a program that does not compile fails.
 */
export function buildNydusCrates(t: Scope): Promise<CargoProgram> {
  building ??= compile(t);
  return building;
}

async function compile(t: Scope): Promise<CargoProgram> {
  const cargo = findTool('cargo') ?? [join(process.env['HOME'] ?? '', '.cargo/bin/cargo')].find(existsSync);
  if (cargo === undefined) return { reason: 'cargo is not installed' };
  const missing = ['cc', 'cmake', 'make'].filter((tool) => findTool(tool) === undefined);
  if (missing.length > 0) return { reason: `${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not installed` };
  const cwd = join(root, 'test', 'interop', 'nydus-crates');
  const target = join(root, '.build', 'nydus-crates');
  const home = process.env['HOME'] && existsSync(process.env['HOME']) ? process.env['HOME'] : scratch(t);
  // OpenSSL is compiled with the rest unless its headers are there.
  const headers = findTool('pkg-config') !== undefined && (await run('pkg-config', ['--exists', 'openssl'])).code === 0;
  if (!headers && !findTool('perl')) return { reason: 'neither the headers of OpenSSL nor perl to compile it are installed' };
  // A cargo of rustup's, run with another home folder, does not find its toolchains.
  const rustup = join(cargo, '..', '..', '..', '.rustup');
  const env = {
    ...process.env,
    HOME: home,
    ...(process.env['RUSTUP_HOME'] === undefined && existsSync(rustup) && { RUSTUP_HOME: rustup }),
    CARGO_TARGET_DIR: target,
    CARGO_TERM_COLOR: 'never',
    CARGO_NET_RETRY: '1',
    CARGO_HTTP_TIMEOUT: '20',
    ...(headers && { OPENSSL_NO_VENDOR: '1' }),
  };
  const fetched = await run(cargo, ['fetch', '--locked'], { cwd, env, timeout: 240_000 }).catch(String);
  if (typeof fetched === 'string') return { reason: "Nydus' crates did not arrive in time" };
  if (fetched.code !== 0) return { reason: `Nydus' crates cannot be had: ${fetched.stderr.trim().split('\n').at(-1) ?? ''}` };
  const compiled = await run(cargo, ['build', '--release', '--locked', '--offline'], { cwd, env, timeout: 600_000 });
  if (/is not supported by the following package|requires rustc/.test(compiled.stderr)) return { reason: `cargo is too old: ${compiled.stderr.trim().split('\n')[0] ?? ''}` };
  assert.equal(compiled.code, 0, `cargo build\n${compiled.stderr}`);
  return { program: join(target, 'release', 'lazypull-nydus') };
}
