import { equalBytes } from '../../src/core/bytes.ts';
import { corrupt, printable } from '../../src/core/errors.ts';
import { streamOf } from '../../src/core/stream.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { TarReader } from '../../src/tar/read.ts';
import type { ZtocRecord } from './layout.ts';
import { decodeModTime } from './mod-time.ts';
import { tocRecord } from './toc.ts';
import { xattrsOf } from './toc-tree.ts';

/** Longest tar header that is looked at, all its records together: 8 MiB, like everywhere. */
export const MAX_HEADER = 8 << 20;

/**
 * Holds the tar header of a file, all bytes between the entry in front of it and its content, against its record (notes
 * §6.4). CORRUPT when they are anything else than one header, or say anything else.
 */
export async function checkHeader(bytes: Uint8Array, record: ZtocRecord): Promise<void> {
  const place = { path: record.name, offset: record.offset - bytes.length };
  const entry = await readHeader(bytes, record);
  const found = tocRecord(entry);
  if ('skipped' in found) throw corrupt(`tar header is not what zTOCs are made of: ${found.skipped}`, place);
  for (const field of FIELDS) {
    if (found[field] !== record[field]) throw corrupt(`tar header has the ${NAMES[field]} ${spell(found[field])}, the zTOC says ${spell(record[field])}`, place);
  }
  // Only the low bits count, and the type has been compared.
  if (found.mode % 0o10000 !== record.mode % 0o10000) throw corrupt(`tar header has the mode ${found.mode.toString(8)}, the zTOC says ${record.mode.toString(8)}`, place);
  const time = decodeModTime(record.modTime, record.name);
  if (time.seconds !== entry.mtime.seconds || time.nanoseconds !== entry.mtime.nanoseconds) {
    throw corrupt(`tar header has the modification time ${found.modTime}, the zTOC says ${printable(record.modTime)}`, place);
  }
  if (!sameXattrs(xattrsOf(found), xattrsOf(record))) throw corrupt('tar header has other xattrs than the zTOC', place);
}

const NAMES = { name: 'name', type: 'type', size: 'size', linkName: 'link target', uid: 'user', gid: 'group', major: 'device number', minor: 'device number' } as const;
const FIELDS = Object.keys(NAMES) as (keyof typeof NAMES)[];

function spell(value: string | number): string {
  return typeof value === 'number' ? String(value) : printable(JSON.stringify(value.slice(0, 200)));
}

async function readHeader(bytes: Uint8Array, record: ZtocRecord): Promise<TarEntry> {
  const tar = new TarReader(streamOf(bytes), { what: `tar header of ${printable(record.name.slice(0, 200))}`, maxHeaderSize: MAX_HEADER });
  try {
    const entry = await tar.next();
    if (entry && entry.header.length === bytes.length) return entry;
    const found = entry ? `${entry.header.length} bytes are a header` : 'the archive ends there';
    throw corrupt(`of ${bytes.length} bytes in front of the content ${found}`, { path: record.name, offset: record.offset - bytes.length });
  } finally {
    await tar.close();
  }
}

function sameXattrs(a: ReadonlyMap<string, Uint8Array>, b: ReadonlyMap<string, Uint8Array>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (!other || !equalBytes(value, other)) return false;
  }
  return true;
}
