import type { Descriptor } from '../../src/core/types.ts';
import { compareNames } from '../../src/layer/walk.ts';
import { parseManifest, parseObject } from '../../src/oci/documents.ts';
import { OCI } from '../../src/oci/media-types.ts';

// A snapshotter decodes a SOCI index manifest into Go structs, encodes those again and stores the result under the digest
// of what it fetched (notes §7.1). So an index has to be the very bytes that Go's encoding/json writes for them.

/** The fields of Go's manifest struct that survive; the others it writes are fixed. */
interface GoManifest {
  readonly config: Descriptor;
  /** Go's nil list is not its empty list. */
  readonly layers: readonly Descriptor[] | null;
  readonly subject?: Descriptor | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** Field names with their encoded values, in the order of the struct; undefined for what `omitempty` leaves out. */
type Fields = readonly (readonly [name: string, value: string | undefined])[];

/** The bytes of a SOCI index manifest, as Go 1.22 or later writes them for image-spec 1.1's `Manifest`. */
export function encodeGoManifest({ config, layers, subject, annotations }: GoManifest): Uint8Array {
  return Buffer.from(object([
    ['schemaVersion', '2'],
    ['mediaType', text(OCI.manifest)],
    ['config', descriptor(config)],
    ['layers', layers ? list(layers, descriptor) : 'null'],
    ['subject', subject && descriptor(subject)],
    ['annotations', textMap(annotations)],
  ]), 'utf8');
}

/** Where a SOCI index manifest first differs from what Go would make of it: a byte offset; undefined when it does not. CORRUPT for what is no manifest. */
export function goDifference(bytes: Uint8Array, what: string): number | undefined {
  parseManifest(bytes, what);
  // What has just been found in order, but as it stands: null for Go's nil, and every key.
  const again = encodeGoManifest(parseObject(bytes, what) as unknown as GoManifest);
  const common = Math.min(bytes.length, again.length);
  for (let at = 0; at < common; at++) if (bytes[at] !== again[at]) return at;
  return bytes.length === again.length ? undefined : common;
}

/** image-spec 1.1 `Descriptor`. Fields beyond these do not survive. */
function descriptor({ mediaType, digest, size, urls, annotations, data, platform, artifactType }: Descriptor): string {
  return object([
    ['mediaType', text(mediaType)],
    ['digest', text(digest)],
    ['size', String(size)],
    ['urls', urls && urls.length > 0 ? list(urls, text) : undefined],
    ['annotations', textMap(annotations)],
    ['data', typeof data === 'string' && data !== '' ? text(Buffer.from(data, 'base64').toString('base64')) : undefined],
    ['platform', platform ? object([
      ['architecture', text(platform.architecture)],
      ['os', text(platform.os)],
      ['os.version', optional(platform['os.version'])],
      ['os.features', textList(platform['os.features'])],
      ['variant', optional(platform.variant)],
    ]) : undefined],
    ['artifactType', optional(artifactType)],
  ]);
}

function object(fields: Fields): string {
  return `{${fields.flatMap(([name, value]) => (value === undefined ? [] : [`"${name}":${value}`])).join(',')}}`;
}

function list<T>(items: readonly T[], encode: (item: T) => string): string {
  return `[${items.map(encode).join(',')}]`;
}

/** Documents may hold anything where their parser does not look. */
function optional(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? text(value) : undefined;
}

function textList(value: unknown): string | undefined {
  return Array.isArray(value) && value.length > 0 ? list(value.map(String), text) : undefined;
}

/** Go sorts keys by their bytes. */
function textMap(map: Readonly<Record<string, string>> | null | undefined): string | undefined {
  const keys = Object.keys(map ?? {});
  if (!map || keys.length === 0) return undefined;
  return `{${keys.sort(compareNames).map((key) => `${text(key)}:${optional(map[key]) ?? '""'}`).join(',')}}`;
}

/** A string as Go writes it: fit for HTML, each byte that is not UTF-8 (here a lone surrogate) as an escaped U+FFFD. */
function text(value: string): string {
  const escaped = value.split(/\p{Surrogate}/u).map((part) =>
    JSON.stringify(part).slice(1, -1).replace(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`));
  return `"${escaped.join('\\ufffd')}"`;
}
