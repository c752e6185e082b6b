import * as z from 'zod';
import { digestOf, isDigest, type Digest } from '../core/digest.ts';
import { corrupt, LazypullError, printable, type ErrorPlace } from '../core/errors.ts';
import type { Descriptor } from '../core/types.ts';
import { DOCKER_SCHEMA1, isIndexType, isManifestType, OCI } from './media-types.ts';

/** Bytes of a manifest that every registry takes, and the most that is read from one. */
export const MANIFEST_LIMIT = 16 * 1024 * 1024;
/** Objects and lists inside each other that a document may have: encoding it again is recursive, and so is comparing it. */
const MAX_NESTING = 500;

const text = z.record(z.string(), z.string());
// Go writes nil maps and slices as null; readers everywhere take that for "absent".
const optionalText = text.nullish().transform((v) => v ?? undefined);
const descriptorShape = z.looseObject({
  mediaType: z.string(),
  digest: z.custom<Digest>(isDigest, 'not a sha256 or sha512 digest'),
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  annotations: text.nullish(),
  urls: z.array(z.string()).nullish(),
  platform: z.looseObject({ os: z.string(), architecture: z.string() }).nullish(),
});
const descriptor = descriptorShape.transform((v) => dropNulls(v) as unknown as Descriptor);

const indexShape = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptor).nullable().transform((v) => v ?? []),
  subject: descriptor.optional(),
  artifactType: z.string().optional(),
  annotations: optionalText,
});

const manifestShape = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptor,
  layers: z.array(descriptor).nullable().transform((v) => v ?? []),
  subject: descriptor.optional(),
  artifactType: z.string().optional(),
  annotations: optionalText,
});

const configShape = z.looseObject({
  architecture: z.string().optional(),
  os: z.string().optional(),
  rootfs: z.looseObject({
    type: z.string(),
    diff_ids: z.array(z.custom<Digest>(isDigest, 'not a sha256 or sha512 digest')).nullable().transform((v) => v ?? []),
  }),
  history: z.array(z.looseObject({ empty_layer: z.boolean().optional() })).nullish(),
});

/** image-spec 1.1 image-index.md. Unknown fields are kept. */
export type ImageIndex = z.output<typeof indexShape>;
/** image-spec 1.1 manifest.md. Unknown fields are kept. */
export type ImageManifest = z.output<typeof manifestShape>;
/** image-spec 1.1 config.md, the part that lazypull touches. Unknown fields are kept. */
export type ImageConfig = z.output<typeof configShape>;

export function parseIndex(bytes: Uint8Array, what = 'index'): ImageIndex {
  const document = parseObject(bytes, what);
  refuseConfusion(document, what);
  return check(indexShape, document, what);
}

export function parseManifest(bytes: Uint8Array, what = 'manifest'): ImageManifest {
  const document = parseObject(bytes, what);
  refuseConfusion(document, what);
  return check(manifestShape, document, what);
}

export function parseConfig(bytes: Uint8Array, what = 'image config'): ImageConfig {
  return check(configShape, parseObject(bytes, what), what);
}

export function parseDescriptor(value: unknown, what = 'descriptor'): Descriptor {
  return check(descriptor, value, what);
}

/**
 * The media type of a manifest: the given one unless it is generic, then the document's own `mediaType`, then its shape.
 * Two specific answers that differ are an error, and so is a document that is index and manifest at once.
 */
export function manifestMediaType(bytes: Uint8Array, declared: string | undefined, what = 'manifest'): string {
  const given = declared?.split(';')[0]?.trim().toLowerCase();
  if (given && DOCKER_SCHEMA1.test(given)) throw schema1(what);
  const document = parseObject(bytes, what);
  refuseConfusion(document, what);
  const own = typeof document['mediaType'] === 'string' ? document['mediaType'] : undefined;
  if (document['schemaVersion'] === 1) throw schema1(what);
  const specific = given && (isIndexType(given) || isManifestType(given)) ? given : undefined;
  if (specific && own && own !== specific) throw corrupt(`${what} is served as ${specific} but calls itself ${printable(own)}`);
  if (specific ?? own) return (specific ?? own) as string;
  if (Array.isArray(document['manifests'])) return OCI.index;
  if (document['config'] && Array.isArray(document['layers'])) return OCI.manifest;
  throw corrupt(`${what} is neither an image manifest nor an image index`);
}

/** A new document's bytes: compact, keys in the order given, no trailing newline. */
export function encodeDocument(document: object): Uint8Array {
  return Buffer.from(JSON.stringify(document), 'utf8');
}

/** The descriptor of a document's bytes. */
export function describe(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function schema1(what: string): LazypullError {
  return new LazypullError('UNSUPPORTED', `${what} is a Docker schema 1 manifest; push the image again with a current client`);
}

/** The JSON object that a stranger's document is; CORRUPT when it is something else, LIMIT when it nests too deeply. */
export function parseObject(bytes: Uint8Array, what: string, place: ErrorPlace = {}): Record<string, unknown> {
  const json = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (nesting(json) > MAX_NESTING) throw new LazypullError('LIMIT', `${what} nests more than ${MAX_NESTING} levels deep`, place);
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch (cause) {
    throw corrupt(`${what} is not JSON`, { ...place, cause });
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) throw corrupt(`${what} is not a JSON object`, place);
  return document as Record<string, unknown>;
}

/** Most brackets that are open at one place of a JSON text. */
function nesting(json: string): number {
  let depth = 0;
  let most = 0;
  let inString = false;
  for (let i = 0; i < json.length; i++) {
    const char = json[i];
    if (inString) {
      if (char === '\\') i += 1;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === '[' || char === '{') most = Math.max(most, (depth += 1));
    else if (char === ']' || char === '}') depth -= 1;
  }
  return most;
}

function refuseConfusion(document: Record<string, unknown>, what: string): void {
  if ('manifests' in document && ('layers' in document || 'config' in document)) {
    throw corrupt(`${what} is an index and a manifest at once`);
  }
}

function check<S extends z.ZodType>(shape: S, value: unknown, what: string): z.output<S> {
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.map(String).join('.') ?? '';
  throw corrupt(`${what} is malformed: ${where ? `${printable(where)}: ` : ''}${printable(issue?.message ?? 'unexpected shape')}`);
}

function dropNulls<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== null)) as T;
}
