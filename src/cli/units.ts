import { LazypullError, printable } from '../core/errors.ts';

const FACTORS = new Map<string, number>([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, i): [string, number][] => [
    [letter, 1024 ** (i + 1)],
    [`${letter}ib`, 1024 ** (i + 1)],
    [`${letter}b`, 1000 ** (i + 1)],
  ]),
]);

/** Bytes from what a user types: `4096`, `64K` and `64KiB` (times 1024), `10GB` (times 1000), `1.5G`. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim());
  const factor = match ? FACTORS.get((match[2] as string).toLowerCase()) : undefined;
  const size = factor === undefined ? Number.NaN : Math.round(Number(match?.[1]) * factor);
  if (Number.isSafeInteger(size)) return size;
  throw new LazypullError('USAGE', `not a size: ${printable(text)} (examples: 4096, 64K, 500M, 10G, 10GB)`);
}

/** Bytes for people, in powers of 1000 as registries and docker print them: `842 B`, `31.4 MB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (unit < units.length - 1 && (unit === 0 ? value >= 1000 : value >= 999.95)) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] as string}`;
}

/** Seconds for people: `0.4 s`, `12.3 s`, `4:07`, `1:02:03`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** `1 layer`, `2 layers`, `1,204 files`. */
export function count(number: number, noun: string, nouns = `${noun}s`): string {
  return `${number.toLocaleString('en-US')} ${number === 1 ? noun : nouns}`;
}

/** A digest short enough for a table: `sha256:0123456789ab`. */
export function shortDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13);
}

/** A sentence with its digests as the tables show them. */
export function shortDigests(text: string): string {
  return text.replace(/\bsha(?:256|512):[0-9a-f]{64,128}/g, shortDigest);
}
