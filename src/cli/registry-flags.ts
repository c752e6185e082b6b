import { Option, type Command } from 'commander';
import { LazypullError, throwIfAborted } from '../core/errors.ts';
import type { RegistryOptions } from '../oci/registry-options.ts';
import type { Io } from './io.ts';

/** The flags as commander hands them over; with a `src` or `dst` prefix they are for one end only. */
export type RegistryFlags = Readonly<Record<string, unknown>>;

export type Side = 'src' | 'dst';

const GROUP = 'Registry options:';

const PER_SIDE: readonly (readonly [string, string])[] = [
  ['plain-http', 'talk HTTP instead of HTTPS'],
  ['tls-ca <file>', 'also trust the certificates in this PEM file'],
  ['tls-skip-verify', 'accept any certificate'],
  ['authfile <file>', "credentials file, in the form of docker's config.json"],
  ['username <name>', 'log in with this name; the password comes from --password-stdin'],
];

const SIDES: readonly (readonly [Side, string])[] = [['src', 'source'], ['dst', 'target']];

/** Flags for a command that talks to one registry, or to two (`sides`: then each has variants of its own). */
export function addRegistryOptions(command: Command, sides = false): void {
  const add = (flags: string, help: string): void => void command.addOption(new Option(flags, help).helpGroup(GROUP));
  for (const [flags, help] of PER_SIDE) add(`--${flags}`, help);
  add('--password-stdin', `read the password from standard input${sides ? ' (two names: the source\'s first, one per line)' : ''}`);
  command.addOption(new Option('--mirror <[registry=]address>', 'fetch from there first (a host or a URL); may be repeated').helpGroup(GROUP).argParser(collect));
  add('--hosts-dir <dir>', "containerd's folder of hosts.toml files (default: /etc/containerd/certs.d and ~/.config/containerd/certs.d)");
  if (!sides) return;
  for (const [side, end] of SIDES) {
    for (const [flags, help] of PER_SIDE) command.addOption(new Option(`--${side}-${flags}`, `${help} (${end} only)`).hideHelp());
  }
  command.addHelpText('after', `
Registry options for one end only are written with a prefix: --src-plain-http,
--dst-username and so on.`);
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** What the flags say about one end. Flags for that end go before flags for both. */
export function registryOptions(flags: RegistryFlags, passwords: Passwords, side?: Side): RegistryOptions {
  const of = (name: string): unknown => (side && flags[`${side}${name[0]?.toUpperCase()}${name.slice(1)}`]) ?? flags[name];
  const text = (name: string): string | undefined => (typeof of(name) === 'string' ? (of(name) as string) : undefined);
  const tlsCa = text('tlsCa');
  const authFile = text('authfile');
  const username = text('username');
  const mirrors = flags['mirror'];
  const hostsDir = text('hostsDir');
  const password = passwords.get(side && flags[`${side}Username`] !== undefined ? side : 'both');
  return {
    ...(of('plainHttp') === true ? { plainHttp: true } : {}),
    ...(of('tlsSkipVerify') === true ? { tlsSkipVerify: true } : {}),
    ...(tlsCa === undefined ? {} : { tlsCa }),
    ...(authFile === undefined ? {} : { authFile }),
    // What is written to is asked itself what it has.
    ...(side === 'dst' ? { direct: true } : Array.isArray(mirrors) ? { mirrors: mirrors as readonly string[] } : {}),
    ...(hostsDir === undefined ? {} : { hostsDir }),
    ...(username === undefined || password === undefined ? {} : { creds: { username, password } }),
  };
}

export type Passwords = ReadonlyMap<Side | 'both', string>;

/** Reads the passwords that the flags ask for. They are never taken from the command line, where `ps` shows them. */
export async function readPasswords(flags: RegistryFlags, io: Io): Promise<Passwords> {
  const users: (Side | 'both')[] = [];
  if (flags['username'] !== undefined) users.push('both');
  for (const [side] of SIDES) if (flags[`${side}Username`] !== undefined) users.push(side);
  if (flags['passwordStdin'] !== true) {
    if (users.length > 0) throw usage('--username needs --password-stdin: a password in the arguments could be seen by others');
    return new Map();
  }
  if (users.length === 0) throw usage('--password-stdin needs --username');
  if (users[0] === 'both' && users.length > 1) throw usage('--username is for both ends: use --src-username and --dst-username instead');
  if ([flags['username'], flags['srcUsername'], flags['dstUsername']].some((name) => String(name ?? '').includes(':'))) {
    throw usage('a user name has no colon: the password is read by --password-stdin');
  }
  const lines = (await readText(io)).split(/\r?\n/);
  if (users.length === 1) {
    // One password may be anything; only the newline that `echo` adds is not part of it.
    const password = lines.length === 2 && lines[1] === '' ? (lines[0] as string) : lines.join('\n');
    if (password === '') throw usage('standard input holds no password');
    return new Map([[users[0] as Side | 'both', password]]);
  }
  return new Map(users.map((user, i) => {
    if (!lines[i]) throw usage(`standard input holds ${i} passwords, ${users.length} are needed, one per line`);
    return [user, lines[i]];
  }));
}

/** All of standard input, unless the command is cancelled while it waits: a terminal may never end it. */
async function readText(io: Io): Promise<string> {
  throwIfAborted(io.signal);
  let cancel: () => void = () => undefined;
  const cancelled = new Promise<never>((_, reject) => {
    cancel = () => reject(new LazypullError('CANCELLED', 'cancelled'));
    io.signal.addEventListener('abort', cancel, { once: true });
  });
  try {
    return await Promise.race([collectText(io), cancelled]);
  } finally {
    io.signal.removeEventListener('abort', cancel);
  }
}

async function collectText(io: Io): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of io.stdin) {
    const bytes = Buffer.from(part as Uint8Array);
    size += bytes.length;
    if (size > 65536) throw usage('standard input is too long to be a password');
    parts.push(bytes);
  }
  return Buffer.concat(parts).toString('utf8');
}

function usage(message: string): LazypullError {
  return new LazypullError('USAGE', message);
}
