import { gzipSync } from 'node:zlib';
import { digestHex, digestOf } from '../../../src/core/digest.ts';
import type { StoredLayer } from '../../../src/core/format.ts';
import { MemorySource } from '../../../src/core/source.ts';
import { collect } from '../../../src/core/stream.ts';
import type { ByteSource, OpenLayer } from '../../../src/core/types.ts';
import type { OpenImage } from '../../../src/image/open.ts';
import { LayerReader } from '../../../src/layer/reader.ts';
import { walk } from '../../../src/layer/walk.ts';
import type { BlobEntry } from '../../../formats/nydus/bootstrap-layout.ts';
import type { NydusOptions } from '../../../formats/nydus/index.ts';
import { readBootstrapLayer } from '../../../formats/nydus/read-bootstrap.ts';
import type { BlobPlaces } from '../../../formats/nydus/read-tables.ts';
import { archive, entries } from '../../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, xattrs } from '../../support/tar-corpus.ts';
import { noise } from '../../support/noise.ts';
import { convertTars } from './images.ts';

/** Two layers with everything that a tree can have, small enough to be read thousands of times. */
export const TARS: readonly Uint8Array[] = [
  archive(entries(directory('etc/'), file('etc/hosts', '127.0.0.1 localhost\n'), file('etc/empty'), directory('var/'), file('var/gone', 'old'), file('noise', noise(9000)), symlink('etc/link', 'hosts'), hardlink('hosts', 'etc/hosts')), xattrs().subarray(0, -1024)),
  archive(entries(directory('etc/'), file('etc/words', 'words and words '.repeat(700)), file('etc/again', noise(9000)), file('.wh.noise'), directory('var/'), file('var/.wh.gone'))),
];

export interface Rafs {
  readonly bootstrap: Uint8Array;
  /** Assembled context tables, by blob id. */
  readonly metas: ReadonlyMap<string, Uint8Array>;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly image: OpenImage;
}

/** An image's bootstrap and blobs. */
export async function madeRafs(options: NydusOptions = {}, tars: readonly Uint8Array[] = TARS): Promise<Rafs> {
  const { image } = await convertTars(tars, options);
  const blobs = new Map<string, Uint8Array>();
  for (const { descriptor } of image.layers.slice(0, -1)) blobs.set(digestHex(descriptor.digest), await collect(image.place.store.fetch(descriptor), 1 << 26));
  const last = image.layers.at(-1)?.stored as StoredLayer;
  return { ...(await readBootstrapLayer(last)), blobs, image };
}

/** Blobs in memory; all of a blob's tables are in the blob itself, unless told. */
export function placesOf(blobs: ReadonlyMap<string, Uint8Array>, metas: ReadonlyMap<string, Uint8Array> = new Map()): BlobPlaces {
  const find = ({ id }: BlobEntry): ByteSource => new MemorySource(blobs.get(id) ?? new Uint8Array(0));
  return { metas, data: find, tables: find };
}

/** What an open image shows, one line per name: every file with its content's digest. */
export async function shown(open: Pick<OpenLayer, 'index' | 'sources' | 'inflate' | 'check'>): Promise<readonly string[]> {
  const reader = new LayerReader({ format: 'nydus', indexBytes: 0, ...open });
  const lines: string[] = [];
  for (const { path, node } of walk(open.index.root, { sorted: true })) {
    const what = node.type === 'file' ? digestOf(await collect(reader.stream(node, { path }), 1 << 26)) : node.type === 'symlink' ? node.target : node.type;
    lines.push(`${path} ${node.mode.toString(8)} ${node.uid}:${node.gid} ${node.mtime.seconds} ${[...node.xattrs.keys()].join(' ')} ${what}`);
  }
  return lines;
}

/** A tar+gzip layer of one file system in blobs: files by path. */
export function bootstrapLayer(files: Readonly<Record<string, Uint8Array>>): Uint8Array {
  return gzipSync(archive(entries(directory('image/'), ...Object.entries(files).map(([path, bytes]) => file(path, bytes)))));
}
