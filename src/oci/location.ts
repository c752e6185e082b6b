import { isDigest, type Digest } from '../core/digest.ts';
import { LazypullError, printable } from '../core/errors.ts';
import type { ImageStore } from '../core/types.ts';
import { openLayout, type LayoutOptions } from './layout.ts';
import { checkName } from './layout-names.ts';
import { formatReference, parseReference, referenceTarget, withoutPassword, type Reference } from './reference.ts';
import type { RegistryOptions } from './registry.ts';

/** Where an image is, as a user writes it. */
export type Location = RegistryLocation | LayoutLocation;

export interface RegistryLocation {
  readonly transport: 'docker';
  readonly reference: Reference;
}

export interface LayoutLocation {
  readonly transport: 'oci';
  /** The layout's folder. */
  readonly folder: string;
  /** `org.opencontainers.image.ref.name`; absent for the layout's only image. */
  readonly name?: string;
  /** Decides over the name when both are there. */
  readonly digest?: Digest;
}

const REFUSED = new Map([
  ['oci-archive', 'unpack the archive and use oci:DIR'],
  ['docker-archive', 'turn it into a layout first, for instance with skopeo copy'],
  ['docker-daemon', 'push the image to a registry, or save it as an OCI layout'],
  ['containers-storage', 'push the image to a registry, or save it as an OCI layout'],
  ['containerd', 'push the image to a registry, or export it as an OCI layout'],
  ['dir', 'use an OCI layout, oci:DIR'],
]);

/**
 * Reads a location:
 *
 * - `docker://REF` or just `host/repo:tag`: an image in a registry (grammar: `parseReference`).
 * - `oci:DIR`, `oci:DIR:NAME`, `oci:DIR@DIGEST`: an image in a layout folder. DIR ends at the first colon, as with other
 *   tools, so that NAME may be any `ref.name`, also `host/repo:tag`; a folder with a colon in its name cannot be given.
 *
 * USAGE when it is malformed, UNSUPPORTED for transports of other tools. Nothing is looked up.
 */
export function parseLocation(text: string): Location {
  if (text.startsWith('oci:')) return parseLayout(text);
  const transport = /^([a-z][a-z-]*):/.exec(text)?.[1];
  const advice = transport === undefined ? undefined : REFUSED.get(transport);
  // `dir:1.0` is a transport and a short image name at once; the other tools decide for the transport, too.
  if (advice !== undefined) throw new LazypullError('UNSUPPORTED', `${transport}: is not supported (${withoutPassword(text)}); ${advice}`);
  if (/^(?:https?|file):\/\//i.test(text)) {
    throw new LazypullError('USAGE', `not an image location: ${withoutPassword(text)}; write docker://host/repo:tag, or oci:DIR for a layout`);
  }
  if (/^[./~]/.test(text)) throw new LazypullError('USAGE', `not an image location: ${printable(text)}; a folder is written oci:${printable(text)}`);
  return { transport: 'docker', reference: parseReference(text) };
}

/** The canonical text; `parseLocation` gives the same location back. */
export function formatLocation(location: Location): string {
  if (location.transport === 'docker') return `docker://${formatReference(location.reference)}`;
  const { folder, name, digest } = location;
  return `oci:${folder}${name === undefined ? '' : `:${name}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** What to ask the location's store for: a digest, a name, or '' for the only image of a layout. */
export function locationTarget(location: Location): string {
  return location.transport === 'docker' ? referenceTarget(location.reference) : (location.digest ?? location.name ?? '');
}

export interface OpenedLocation {
  readonly location: Location;
  readonly store: ImageStore;
  /** For `store.resolve` and `store.tag`: see `locationTarget`. */
  readonly reference: string;
}

/**
 * Opens the store of a location. `create` allows a layout folder that is not there yet. A registry is not contacted, so
 * its errors come with the first use. Close the store when done.
 */
export async function openLocation(text: string | Location, options: RegistryOptions & LayoutOptions = {}): Promise<OpenedLocation> {
  const location = typeof text === 'string' ? parseLocation(text) : text;
  const reference = locationTarget(location);
  if (location.transport === 'oci') return { location, store: await openLayout(location.folder, options), reference };
  const { domain, path } = location.reference;
  // The HTTP client takes longer to load than a layout to open.
  const { openRegistry } = await import('./registry.ts');
  return { location, store: openRegistry({ domain, path }, options), reference };
}

function parseLayout(text: string): LayoutLocation {
  const rest = text.slice('oci:'.length);
  const at = rest.lastIndexOf('@');
  const tail = at < 0 ? undefined : rest.slice(at + 1);
  // A folder may have an @ in its name; what looks like a digest has to be one.
  const isDigestTail = tail !== undefined && /^[a-z0-9]+:/i.test(tail) && !tail.includes('/');
  if (isDigestTail && !isDigest(tail)) throw refuse(text, `${tail} is not a sha256 or sha512 digest`);
  const front = isDigestTail ? rest.slice(0, at) : rest;
  const colon = front.indexOf(':');
  const folder = colon < 0 ? front : front.slice(0, colon);
  if (folder === '') throw refuse(text, 'it names no folder');
  if (folder.startsWith('//')) throw refuse(text, 'a layout is a folder on this machine');
  const name = colon < 0 ? undefined : front.slice(colon + 1);
  if (name !== undefined) checkName(name);
  return {
    transport: 'oci',
    folder,
    ...(name !== undefined && { name }),
    ...(isDigestTail && { digest: tail as Digest }),
  };
}

function refuse(text: string, why: string): LazypullError {
  return new LazypullError('USAGE', `not a layout location: ${printable(text)}: ${printable(why)}; write oci:DIR, oci:DIR:NAME or oci:DIR@DIGEST`);
}
