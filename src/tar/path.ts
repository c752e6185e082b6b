import { corrupt } from '../core/errors.ts';
import type { TarEntry } from './entry.ts';

/** Bytes of one path component, and of a whole path or symlink target (Linux NAME_MAX, and PATH_MAX without its NUL rounded up). */
const COMPONENT_LIMIT = 255;
const PATH_LIMIT = 4096;

/**
 * The place in the tree that a raw archive name stands for: components joined by single slashes, no slash at either end,
 * the empty string for the root. `./a/`, `/a` and `a` are one place. A `..` steps back and stops at the root, the way a
 * process inside a chroot sees it; whether that is allowed is `checkPath`'s decision.
 */
export function cleanPath(raw: string): string {
  if (isClean(raw)) return raw;
  const kept: string[] = [];
  for (const component of raw.split('/')) {
    if (component === '' || component === '.') continue;
    if (component === '..') kept.pop();
    else kept.push(component);
  }
  return kept.join('/');
}

/**
 * Refuses (CORRUPT) an entry that has no sane place in a tree: a name or hard link target that climbs above the root with
 * `..`, a NUL byte, a component above 255 bytes, a path or symlink target above 4096 bytes, something other than a
 * directory at the root, a link without a target. Absolute names are accepted: they are rooted in the layer like all others.
 */
export function checkPath(entry: Pick<TarEntry, 'path' | 'linkName' | 'type' | 'offset'>): void {
  const { path, linkName, type } = entry;
  checkName(entry, path, 'name');
  if (type === 'hardlink') {
    checkName(entry, linkName, 'hard link target');
    if (cleanPath(linkName) === '') throw refuse(entry, 'hard link without a target');
  } else if (type === 'symlink') {
    if (linkName === '') throw refuse(entry, 'symlink without a target');
    if (linkName.includes('\0')) throw refuse(entry, 'symlink target has a NUL byte');
    if (longerThan(linkName, PATH_LIMIT)) throw refuse(entry, `symlink target is longer than ${PATH_LIMIT} bytes`);
  }
  if (type !== 'directory' && cleanPath(path) === '') throw refuse(entry, `the root of the layer is a ${type}`);
}

function checkName(entry: Pick<TarEntry, 'path' | 'offset'>, name: string, what: string): void {
  if (name.includes('\0')) throw refuse(entry, `${what} has a NUL byte`);
  if (longerThan(name, PATH_LIMIT)) throw refuse(entry, `${what} is longer than ${PATH_LIMIT} bytes`);
  const climbs = name.includes('..');
  if (!climbs && !longerThan(name, COMPONENT_LIMIT)) return;
  let depth = 0;
  for (const component of name.split('/')) {
    if (component === '' || component === '.') continue;
    depth += component === '..' ? -1 : 1;
    if (depth < 0) throw refuse(entry, `${what} climbs above the root of the layer`);
    if (longerThan(component, COMPONENT_LIMIT)) throw refuse(entry, `${what} has a component longer than ${COMPONENT_LIMIT} bytes`);
  }
}

function refuse(entry: Pick<TarEntry, 'path' | 'offset'>, message: string): Error {
  const path = entry.path.length > 200 ? `${entry.path.slice(0, 200)}…` : entry.path;
  return corrupt(`tar entry refused: ${message}`, { path, offset: entry.offset });
}

/** Whether a name by `decodeName` has more than `limit` bytes; each lone surrogate stands for one byte. */
function longerThan(name: string, limit: number): boolean {
  if (name.length * 3 <= limit) return false;
  if (name.length > limit) return true;
  let bytes = 0;
  for (const char of name) {
    const code = char.codePointAt(0) as number;
    bytes += code < 0x80 || (code >= 0xdc80 && code <= 0xdcff) ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes > limit;
}

/** The common case, told without taking the name apart. */
function isClean(raw: string): boolean {
  let start = 0;
  for (let i = 0; i <= raw.length; i += 1) {
    if (i < raw.length && raw.charCodeAt(i) !== 0x2f) continue;
    const length = i - start;
    if (length === 0) return raw.length === 0;
    if (raw.charCodeAt(start) === 0x2e && (length === 1 || (length === 2 && raw.charCodeAt(start + 1) === 0x2e))) return false;
    start = i + 1;
  }
  return true;
}
