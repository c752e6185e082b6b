import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defer, findTool, must, run, scratch, serve, unmountBelow, type Ran, type RunOptions, type Scope } from './peers.ts';
import { root } from './root.ts';

/** A containerd of our own: own root, state and socket in a scratch folder; no instance of the system is touched. */
export interface Containerd {
  readonly folder: string;
  /** Runs `ctr`; a status other than 0 fails the test. */
  ctr(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Runs `ctr-remote`; a status other than 0 fails the test. */
  ctrRemote(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Log of the lazy snapshotter, when there is one. */
  snapshotterLog(): string;
}

const NEEDLESS = ['grpc.v1.cri', 'internal.v1.opt', 'snapshotter.v1.btrfs', 'snapshotter.v1.aufs', 'snapshotter.v1.zfs', 'snapshotter.v1.devmapper'];

/** `snapshotter`: a program from `findSnapshotter`, attached as proxy plugin `stargz`. */
export async function startContainerd(t: Scope, snapshotter?: Snapshotter): Promise<Containerd> {
  const folder = scratch(t);
  const socket = join(folder, 'containerd.sock');
  const lines = [
    'version = 2', `root = "${join(folder, 'root')}"`, `state = "${join(folder, 'state')}"`,
    `disabled_plugins = [${NEEDLESS.map((name) => `"io.containerd.${name}"`).join(', ')}]`,
    '[grpc]', `  address = "${socket}"`, '[ttrpc]', `  address = "${socket}.ttrpc"`,
  ];
  defer(t, async () => {
    endShims(folder);
    await unmountBelow(folder);
  });
  let snapshotterLog = (): string => '';
  if (snapshotter) {
    const address = join(folder, 'stargz.sock');
    mkdirSync(join(folder, 'stargz'));
    const service = await serve(t, snapshotter.program, snapshotter.args(address, join(folder, 'stargz')), snapshotter.ready);
    snapshotterLog = service.log;
    lines.push('[proxy_plugins.stargz]', '  type = "snapshot"', `  address = "${address}"`);
  }
  writeFileSync(join(folder, 'config.toml'), `${lines.join('\n')}\n`);
  await serve(t, 'containerd', ['--config', join(folder, 'config.toml')], /containerd successfully booted/);
  const client = (program: string) => (args: readonly string[], options: RunOptions = {}): Promise<Ran> =>
    must(program, args, { ...options, env: { CONTAINERD_ADDRESS: socket, ...options.env } });
  return { folder, ctr: client('ctr'), ctrRemote: client('ctr-remote'), snapshotterLog };
}

/** Shims are started by containerd and outlive it by design; each of ours names our socket in its arguments. */
function endShims(folder: string): void {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'containerd-shim') continue; // the kernel keeps 15 characters
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (args.some((arg) => arg.startsWith(`${folder}/`))) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // ended meanwhile
    }
  }
}

export interface Snapshotter {
  readonly program: string;
  readonly ready: RegExp;
  args(socket: string, folder: string): readonly string[];
}

/**
 * A lazy snapshotter: `containerd-stargz-grpc` if it is installed, otherwise its library behind test/interop/go-snapshotter,
 * built with Go. A reason instead when there is neither.
 */
export async function findSnapshotter(t: Scope): Promise<Snapshotter | string> {
  const installed = findTool('containerd-stargz-grpc');
  if (installed) {
    const config = join(scratch(t), 'config.toml');
    writeFileSync(config, 'no_background_fetch = true\nno_prometheus = true\n');
    return {
      program: installed, ready: /"?(?:Ready|ready|serving|Start)/,
      args: (socket, folder) => ['--address', socket, '--root', folder, '--config', config, '--log-level', 'info'],
    };
  }
  const built = await buildGo(t, 'go-snapshotter');
  if (built.reason !== undefined) return `containerd-stargz-grpc is not installed, and ${built.reason}`;
  return { program: built.program, ready: /^ready$/m, args: (socket, folder) => [socket, folder] };
}

export type GoProgram = { readonly program: string; readonly reason?: undefined } | { readonly program?: undefined; readonly reason: string };

/** The Go programs in test/interop, and the static library that is linked with the C in them. */
export const GO_PROGRAMS = { 'go-estargz': undefined, 'go-snapshotter': undefined, 'go-soci': 'libz.a', 'nydus-converter': undefined } as const;

/**
 * Builds one of the Go programs, below .build: nothing has to be done for one that is there already. Only a missing Go, a missing
 * C compiler for one with C, or missing modules are reasons to skip; a program that does not compile fails.
 */
export async function buildGo(t: Scope, name: keyof typeof GO_PROGRAMS): Promise<GoProgram> {
  if (!findTool('go')) return { reason: 'go is not installed' };
  const archive = GO_PROGRAMS[name];
  const gcc = findTool('gcc');
  if (archive !== undefined) {
    if (!gcc) return { reason: 'gcc is not installed' };
    // gcc answers with the bare name when it finds no such file.
    const { text } = await run('gcc', [`-print-file-name=${archive}`]);
    if (text.trim() === archive) return { reason: `${archive} is not installed` };
  }
  const cwd = join(root, 'test', 'interop', name);
  const program = join(root, '.build', 'go', name);
  // Go keeps its own settings (proxy, caches) in the environment and in the home folder.
  const home = process.env['HOME'] && existsSync(process.env['HOME']) ? process.env['HOME'] : scratch(t);
  // The same for all programs, so that what they have in common is compiled once.
  const env = { ...process.env, HOME: home, GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly -modcacherw', CGO_ENABLED: gcc ? '1' : '0' };
  const fetched = await run('go', ['mod', 'download'], { cwd, env, timeout: 240_000 }).catch(String);
  if (typeof fetched === 'string') return { reason: `the modules of ${name} did not arrive in time` };
  if (fetched.code !== 0) return { reason: `the modules of ${name} cannot be had: ${fetched.stderr.trim().split('\n').at(-1) ?? ''}` };
  const compiled = await run('go', ['build', '-trimpath', '-ldflags=-s -w', '-gcflags=all=-dwarf=false', '-o', program, '.'], { cwd, env, timeout: 420_000 });
  assert.equal(compiled.code, 0, `go build ${name}\n${compiled.stderr}`);
  return { program };
}
