import { LazypullError, printable } from '../core/errors.ts';
import { isDigest, type Digest } from '../core/digest.ts';

/** A registry reference, normalised: `docker.io/library/alpine:3.20`. */
export interface Reference {
  /** `host` or `host:port`; `docker.io` stands for Docker Hub. */
  readonly domain: string;
  /** Repository, `library/alpine`. */
  readonly path: string;
  /** `latest` when neither tag nor digest was given. */
  readonly tag?: string;
  /** Decides over the tag when both are there; the tag is then for display only. */
  readonly digest?: Digest;
}

/** Where a repository is: a reference without its last part. */
export type Repository = Pick<Reference, 'domain' | 'path'>;

const HUB = 'docker.io';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const DOMAIN = new RegExp(String.raw`^(?:${LABEL}(?:\.${LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`);
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const PATH = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const NAME_LIMIT = 255;

export function isTag(text: string): boolean {
  return TAG.test(text);
}

/**
 * Reads `[docker://][domain/]path[:tag][@digest]` the way container tools do (registry.md §1): what stands before the
 * first slash is a host only if it looks like one, and short names are Docker Hub's. Anything else is a USAGE error.
 */
export function parseReference(text: string): Reference {
  const name = text.startsWith('docker://') ? text.slice('docker://'.length) : text;
  if (name === '') throw refuse(text, 'it is empty');
  if (name.length > 2 * NAME_LIMIT + 300) throw refuse(text.slice(0, 80), `it is ${name.length} characters long`);
  if (/^[0-9a-f]{64}$/.test(name)) throw refuse(text, 'a bare 64-digit image ID names no repository');
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(name)) throw refuse(text, 'only docker:// can stand before a registry reference');

  const at = name.indexOf('@');
  const digest = at < 0 ? undefined : checkDigest(name.slice(at + 1), text);
  const rest = at < 0 ? name : name.slice(0, at);
  // A colon before the last slash belongs to a port.
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  const tag = colon < 0 ? undefined : rest.slice(colon + 1);
  if (tag !== undefined && !isTag(tag)) {
    throw refuse(text, `the tag "${printable(tag)}" must be 1 to 128 of A-Z a-z 0-9 _ . - and not begin with . or -`);
  }
  const repository = splitName(colon < 0 ? rest : rest.slice(0, colon), text);
  if (digest !== undefined) return tag === undefined ? { ...repository, digest } : { ...repository, tag, digest };
  return { ...repository, tag: tag ?? 'latest' };
}

/** The canonical text of a reference. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.domain}/${reference.path}${tag}${digest}`;
}

/** What is asked of a store for this reference: the digest if there is one, else the tag. */
export function referenceTarget(reference: Reference): string {
  return reference.digest ?? reference.tag ?? 'latest';
}

/** Checks the parts of a repository that did not come from `parseReference`. */
export function checkRepository(repository: Repository): Repository {
  return checkName(repository.domain, repository.path, `${repository.domain}/${repository.path}`);
}

/** The host (and port) that serves a domain's API. */
export function registryHost(domain: string): string {
  return domain === HUB ? 'registry-1.docker.io' : domain;
}

/** Whether a host is this machine, by its name alone: `localhost`, 127.0.0.0/8 or `[::1]`. */
export function isLoopbackHost(host: string): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase();
  return name === 'localhost' || name.endsWith('.localhost') || /^127(?:\.\d{1,3}){3}$/.test(name) || name === '[::1]' || name === '::1';
}

function splitName(name: string, text: string): Repository {
  const slash = name.indexOf('/');
  const head = slash < 0 ? '' : name.slice(0, slash);
  const isDomain = head === 'localhost' || /[.:A-Z]/.test(head);
  const domain = !isDomain || head === 'index.docker.io' ? HUB : head;
  let path = isDomain ? name.slice(slash + 1) : name;
  if (domain === HUB && path !== '' && !path.includes('/')) path = `library/${path}`;
  return checkName(domain, path, text);
}

function checkName(domain: string, path: string, text: string): Repository {
  if (!DOMAIN.test(domain)) throw refuse(text, `"${printable(domain)}" is not a host name, optionally with a port`);
  const port = /:(\d+)$/.exec(domain.replace(/^\[.*\]/, ''))?.[1];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) throw refuse(text, `${port} is not a port`);
  if (path === '') throw refuse(text, 'it names no repository');
  if (!PATH.test(path)) {
    if (PATH.test(path.toLowerCase())) throw refuse(text, 'repository name must be lowercase');
    throw refuse(text, `the repository "${printable(path)}" must consist of a-z 0-9, joined by . _ __ or - within a part, and / between parts`);
  }
  if (domain.length + 1 + path.length > NAME_LIMIT) throw refuse(text, `domain and repository are longer than ${NAME_LIMIT} characters`);
  return { domain, path };
}

function checkDigest(digest: string, text: string): Digest {
  if (isDigest(digest)) return digest;
  throw refuse(text, `what follows the @ is not a digest (sha256: and 64, or sha512: and 128 lower-case hex digits)`);
}

/** What a user wrote, for messages: someone may have put a password in front of the host, as in URLs. */
export function withoutPassword(text: string): string {
  return printable(text.replace(/^((?:[a-z][a-z0-9+.-]*:\/\/)?[^:]*):.*@(?!sha\d+:)/is, '$1:***@'));
}

function refuse(text: string, why: string): LazypullError {
  return new LazypullError('USAGE', `"${withoutPassword(text)}" is not an image reference: ${why}`);
}
