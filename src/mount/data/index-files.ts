import { readFile } from 'node:fs/promises';
import { digestHex, isDigest } from '../../core/digest.ts';
import type { Descriptor } from '../../core/types.ts';
import { MANIFEST_LIMIT, parseManifest } from '../../oci/documents.ts';
import type { CacheFolder } from './folder.ts';

/** Files of the cache that belong to an index that was made here, and what they are about. */
export interface IndexFile {
  /** Digests of the manifests of images that have it. */
  readonly images: ReadonlySet<string>;
  /** Of the layer that it is about, if it is about one. */
  readonly layer: string | undefined;
}

/** A blob of an index. */
export function blobName({ digest }: Pick<Descriptor, 'digest'>): string {
  return `${digestHex(digest)}.index`;
}

/** Which blob describes a layer. */
export function layerName({ digest }: Pick<Descriptor, 'digest'>): string {
  return `${digestHex(digest)}.layer.json`;
}

/** The index of an image: a manifest that refers to it. */
export function artifactName(image: string): string {
  return `${image.slice(image.indexOf(':') + 1)}.index.json`;
}

/** Which of some files are of indexes. */
export async function indexFiles(folder: CacheFolder, names: readonly string[]): Promise<ReadonlyMap<string, IndexFile>> {
  const found = new Map<string, { readonly images: Set<string>; layer: string | undefined }>();
  const file = (name: string): { readonly images: Set<string>; layer: string | undefined } => {
    const known = found.get(name) ?? { images: new Set<string>(), layer: undefined };
    found.set(name, known);
    return known;
  };
  for (const name of names) {
    const [, hex, kind] = /^([0-9a-f]+)\.(index\.json|index|layer\.json)$/.exec(name) ?? [];
    if (hex === undefined) continue;
    const digest = `${hex.length === 128 ? 'sha512' : 'sha256'}:${hex}`;
    if (!isDigest(digest)) continue;
    const { images } = file(name);
    if (kind === 'layer.json') file(name).layer = digest;
    if (kind !== 'index.json') continue;
    images.add(digest);
    for (const blob of await blobsOf(folder, name)) file(blobName(blob)).images.add(digest);
  }
  return found;
}

async function blobsOf(folder: CacheFolder, name: string): Promise<readonly Descriptor[]> {
  try {
    const bytes = await readFile(folder.path('trees', name));
    if (bytes.length > MANIFEST_LIMIT) return [];
    const { config, layers } = parseManifest(bytes, name);
    return [config, ...layers];
  } catch {
    // Damaged: whoever needs it makes it anew.
    return [];
  }
}
