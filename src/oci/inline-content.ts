import type { Descriptor } from '../core/types.ts';

/** `data` of a descriptor (image-spec 1.1), if it is base64 of the promised length; the digest is checked where it is used. */
export function inlineContent({ data, size }: Descriptor): Uint8Array | undefined {
  if (typeof data !== 'string' || data.length !== 4 * Math.ceil(size / 3)) return undefined;
  const bytes = Buffer.from(data, 'base64');
  return bytes.length === size && bytes.toString('base64') === data ? bytes : undefined;
}
