import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Credential } from './credential.ts';
import { parseCredentialsFile, readCredentialsFile, type CredentialsFile } from './credentials-file.ts';
import { getFromHelper } from './credentials-helper.ts';
import { hostOfKey, isHub, keysFor, serverKey } from './credentials-keys.ts';
import type { Repository } from './reference.ts';
import type { Environment } from './registry-options.ts';

export interface CredentialOptions {
  readonly creds?: { readonly username: string; readonly password: string } | undefined;
  /** The only file that is read. */
  readonly authFile?: string | undefined;
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds a helper may take; default 10 000. */
  readonly helperTimeoutMs?: number | undefined;
}

/**
 * Looks for credentials in the order of registry.md §3; the first source that has some wins, and undefined means
 * anonymous. A missing file is no error unless it was named; a file that cannot be read or parsed is.
 */
export async function findCredential(repository: Repository, options: CredentialOptions): Promise<Credential | undefined> {
  if (options.creds) return { kind: 'basic', ...options.creds };
  const { env } = options;
  const only = options.authFile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (only !== undefined) return searchFile(await readCredentialsFile(only, { required: true }), repository, options);
  const inline = env['DOCKER_AUTH_CONFIG'];
  if (inline) {
    const found = await searchFile(parseCredentialsFile(inline, 'DOCKER_AUTH_CONFIG'), repository, options);
    if (found) return found;
  }
  for (const { path, bare } of candidates(env)) {
    const found = await searchFile(await readCredentialsFile(path, { bare }), repository, options);
    if (found) return found;
  }
  return undefined;
}

/** The files of container tools, first match first. `bare`: a map of hosts without `auths` around it. */
function candidates(env: Environment): { path: string; bare: boolean }[] {
  const home = env['HOME'] ?? homedir();
  const runtime = env['XDG_RUNTIME_DIR'];
  const uid = process.getuid?.() ?? 0;
  return [
    { path: runtime ? join(runtime, 'containers/auth.json') : `/run/containers/${uid}/auth.json`, bare: false },
    { path: join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers/auth.json'), bare: false },
    { path: join(env['DOCKER_CONFIG'] || join(home, '.docker'), 'config.json'), bare: false },
    { path: join(home, '.dockercfg'), bare: true },
  ];
}

/** Inside one file: `credHelpers`, then `credsStore`, then `auths`; a helper that knows nothing lets the next one try. */
async function searchFile(file: CredentialsFile | undefined, repository: Repository, options: CredentialOptions): Promise<Credential | undefined> {
  if (!file) return undefined;
  const keys = keysFor(repository);
  const stored = keys.flatMap((key) => [...file.auths.keys()].filter((name) => matches(name, key)));
  const { domain } = repository;
  for (const name of keys.flatMap((key) => [...file.helpers.keys()].filter((helped) => matches(helped, key)))) {
    // Docker Hub's secrets are filed under its URL, whatever the helper's own key is.
    for (const server of new Set(isHub(domain) ? [serverKey(domain), name] : [name])) {
      const found = await getFromHelper(file.helpers.get(name) as string, server, options);
      if (found) return found;
    }
  }
  if (file.store !== undefined) {
    // The store files its secrets under the name that was used at login, which `auths` remembers.
    for (const server of new Set([...stored, serverKey(domain)])) {
      const found = await getFromHelper(file.store, server, options);
      if (found) return found;
    }
  }
  for (const name of stored) {
    const found = file.auths.get(name);
    if (found) return found;
  }
  return undefined;
}

/** A name is a key as it stands; a URL, as docker writes them, stands for its host. */
function matches(name: string, key: string): boolean {
  return name === key || hostOfKey(name) === key;
}
