import { readFile } from 'node:fs/promises';
import { corrupt, LazypullError, printable, wrapError } from '../core/errors.ts';
import type { Credential } from './credential.ts';

/** The part of docker's config.json and containers' auth.json that is about credentials. */
export interface CredentialsFile {
  /** By key as written. Undefined: "logged in, the secret is in the store". */
  readonly auths: ReadonlyMap<string, Credential | undefined>;
  /** Key -> helper name. */
  readonly helpers: ReadonlyMap<string, string>;
  /** Helper for everything else. */
  readonly store: string | undefined;
}

const FILE_LIMIT = 4 * 1024 * 1024;

/** Undefined when the file does not exist, unless it is `required`. `bare`: the map of hosts is the whole document. */
export async function readCredentialsFile(
  path: string,
  options: { readonly required?: boolean; readonly bare?: boolean } = {},
): Promise<CredentialsFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (!options.required && (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES')) return undefined;
    if (code === 'ENOENT') throw new LazypullError('USAGE', 'the credentials file does not exist', { path, cause: error });
    throw wrapError(error, 'IO', 'cannot read the credentials file', { path });
  }
  return parseCredentialsFile(text, path, options.bare);
}

/** Parses a credentials document; an empty one has no credentials. What is quoted in errors is never a secret. */
export function parseCredentialsFile(text: string, path: string, bare = false): CredentialsFile {
  if (text.length > FILE_LIMIT) throw new LazypullError('LIMIT', `the credentials file is larger than ${FILE_LIMIT} bytes`, { path });
  if (text.trim() === '') return { auths: new Map(), helpers: new Map(), store: undefined };
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, secrets included.
    throw corrupt('the credentials file is not JSON', { path });
  }
  const top = fields(document, 'the credentials file', path);
  const auths = new Map<string, Credential | undefined>();
  for (const [key, entry] of Object.entries(fields((bare ? top : top['auths']) ?? {}, 'auths', path))) {
    auths.set(key, parseEntry(fields(entry ?? {}, `the entry for ${key}`, path), key, path));
  }
  const helpers = new Map<string, string>();
  if (bare) return { auths, helpers, store: undefined };
  for (const [key, name] of Object.entries(fields(top['credHelpers'] ?? {}, 'credHelpers', path))) helpers.set(key, helperName(name, path));
  const store = top['credsStore'];
  return { auths, helpers, store: store === undefined || store === null || store === '' ? undefined : helperName(store, path) };
}

function parseEntry(entry: Record<string, unknown>, key: string, path: string): Credential | undefined {
  const text = (name: string): string => {
    const value = entry[name];
    if (value === undefined || value === null) return '';
    if (typeof value === 'string') return value;
    throw corrupt(`${name} of the entry for ${printable(key)} is not a text`, { path });
  };
  const registryToken = text('registrytoken');
  if (registryToken !== '') return { kind: 'registry', token: registryToken };
  let username = text('username');
  let password = text('password');
  const auth = text('auth');
  if (auth !== '') {
    const decoded = decodeAuth(auth);
    const colon = decoded?.indexOf(':') ?? -1;
    if (decoded === undefined || colon < 0) throw corrupt(`auth of the entry for ${printable(key)} is not base64 of user:password`, { path });
    username = decoded.slice(0, colon);
    password = decoded.slice(colon + 1);
  }
  const identity = text('identitytoken');
  if (identity !== '') return { kind: 'identity', username, token: identity };
  return username === '' && password === '' ? undefined : { kind: 'basic', username, password };
}

/** Old docker versions padded the decoded text with NULs. */
function decodeAuth(auth: string): string | undefined {
  const compact = auth.replace(/\s+/g, '');
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(compact)) return undefined;
  // oxlint-disable-next-line no-control-regex -- NULs are what is trimmed
  return Buffer.from(compact, 'base64').toString('utf8').replace(/^\u0000+|\u0000+$/g, '');
}

function helperName(name: unknown, path: string): string {
  // It becomes part of a program's name: nothing that could lead out of PATH.
  if (typeof name === 'string' && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) return name;
  throw corrupt('the name of a credential helper must consist of letters, digits, . _ and -', { path });
}

function fields(value: unknown, what: string, path: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw corrupt(`${printable(what)} is not a JSON object`, { path });
}
