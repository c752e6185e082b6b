import { digestOf } from '../../../src/core/digest.ts';
import type { Descriptor } from '../../../src/core/types.ts';
import { OCI } from '../../../src/oci/media-types.ts';
import type { RecordType, SociLayer, Ztoc, ZtocRecord } from '../../../formats/soci/layout.ts';
import { encodeZtoc } from '../../../formats/soci/ztoc.ts';

/** An entry of a made-up layer. */
export interface Made {
  readonly name: string;
  readonly type?: RecordType;
  readonly size?: number;
  readonly linkName?: string;
  readonly pax?: Readonly<Record<string, string>>;
}

/** The zTOC of a plain tar that nobody has: every header is one block, a span two blocks unless told. */
export function madeZtoc(entries: readonly Made[], spanSize = 1024): Ztoc {
  let end = 0;
  const records = entries.map(({ name, type = 'reg', size = 0, linkName = '', pax = {} }): ZtocRecord => {
    const offset = end + 512;
    end = offset + Math.ceil(size / 512) * 512;
    return {
      name, type, offset, size, linkName, mode: 0o644, uid: 0, gid: 0, userName: '', groupName: '', modTime: '2023-11-14T22:13:20Z', major: 0, minor: 0,
      pax: new Map(Object.entries(pax).map(([key, value]) => [key, Buffer.from(value)])),
    };
  });
  const size = end + 1024;
  const spanDigests = Array.from({ length: Math.ceil(size / spanSize) }, (_, i) => digestOf(Buffer.from(`${i}`)));
  return { buildTool: 'made', packedSize: size, tarSize: size, records, spans: { algorithm: 'uncompressed', spanSize, size }, spanDigests };
}

/** A made-up layer with its zTOC, as a follower tells of it. */
export function madeLayer(entries: readonly Made[], spanSize?: number): { readonly descriptor: Descriptor; readonly details: SociLayer; readonly bytes: Uint8Array } {
  const ztoc = madeZtoc(entries, spanSize);
  const bytes = encodeZtoc(ztoc);
  const descriptor = { mediaType: OCI.layer, digest: digestOf(Buffer.from(JSON.stringify(entries))), size: ztoc.packedSize };
  return { descriptor, bytes, details: { ztoc, descriptor: { mediaType: 'application/octet-stream', digest: digestOf(bytes), size: bytes.length } } };
}
