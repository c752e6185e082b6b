import { encodeName } from '../core/bytes.ts';
import { MAX_NAME_SIZE } from './layout.ts';

const SLASH = 0x2f;

/** Bytes of a name that a directory can hold; 0 for any other. Most names are ASCII and short: one loop, nothing allocated. */
export function nameSize(name: string): number {
  const { length } = name;
  if (length === 0 || length > MAX_NAME_SIZE) return 0;
  for (let i = 0; i < length; i += 1) {
    const unit = name.charCodeAt(i);
    if (unit === 0 || unit === SLASH) return 0;
    if (unit >= 0x80) {
      if (name.includes('/') || name.includes('\0')) return 0;
      const bytes = encodeName(name);
      return bytes.length > MAX_NAME_SIZE || bytes.includes(0) || bytes.includes(SLASH) ? 0 : bytes.length;
    }
  }
  return length;
}

/** Writes a name's `size` bytes. As many bytes as units: each unit is ASCII, or by `decodeName` the byte in its low half. */
export function putName(bytes: Uint8Array, at: number, name: string, size: number): void {
  if (size !== name.length) {
    bytes.set(encodeName(name), at);
    return;
  }
  for (let i = 0; i < size; i += 1) bytes[at + i] = name.charCodeAt(i);
}

/**
 * Sorts names by their bytes, in place. The order of UTF-16 units is the same below U+D800; above it bytes are compared.
 */
export function sortNames(names: string[]): void {
  let sorted = true;
  let high = false;
  for (let i = 0; i < names.length; i += 1) {
    const name = names[i] as string;
    if (i > 0 && sorted) sorted = (names[i - 1] as string) < name;
    if (!high) high = HIGH.test(name);
  }
  if (high) {
    const bytes = new Map(names.map((name) => [name, encodeName(name)]));
    names.sort((a, b) => Buffer.compare(bytes.get(a) as Uint8Array, bytes.get(b) as Uint8Array));
  } else if (!sorted) {
    names.sort();
  }
}

const HIGH = /[\ud800-\uffff]/;
