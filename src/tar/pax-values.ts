import { decodeName, encodeName } from '../core/bytes.ts';
import { printable } from '../core/errors.ts';
import type { Time } from '../core/types.ts';
import { decodeTextRange } from './layout.ts';
import type { Place } from './place.ts';

// The values of pax records: text, decimal numbers, times, and what libarchive packs into ASCII.

/** One record: its value is `bytes[start, end)`. */
export interface PaxRecord {
  readonly key: string;
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
  readonly place: Place;
}

export function malformed(place: Place, message: string): Error {
  return place.corrupt(`pax header: ${message}`);
}

export function paxText({ key, bytes, start, end, place }: PaxRecord): string | undefined {
  if (start === end) return undefined;
  for (let i = start; i < end; i += 1) if (bytes[i] === 0) throw malformed(place, `${key} has a NUL byte`);
  return decodeTextRange(bytes, start, end - start);
}

/** Decimal digits; `undefined` for an empty value. */
export function paxNumber(record: PaxRecord, limit = Number.MAX_SAFE_INTEGER): number | undefined {
  const { key, bytes, start, end, place } = record;
  if (start === end) return undefined;
  let number = 0;
  for (let i = start; i < end; i += 1) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) throw malformed(place, `${key} is not a number: ${shown(record)}`);
    number = number * 10 + digit;
    if (number > limit) throw malformed(place, `${key} is above ${limit}: ${shown(record)}`);
  }
  return number;
}

export function requiredNumber(record: PaxRecord): number {
  const number = paxNumber(record);
  if (number === undefined) throw malformed(record.place, `${record.key} has no value`);
  return number;
}

/** Numbers between commas; none in an empty value. */
export function numberList(record: PaxRecord): number[] {
  const list: number[] = [];
  const { bytes, end } = record;
  for (let start = record.start; start < end; ) {
    let comma = start;
    while (comma < end && bytes[comma] !== 0x2c) comma += 1;
    list.push(requiredNumber({ ...record, start, end: comma }));
    if (comma === end - 1) throw malformed(record.place, `${record.key} ends with a comma`);
    start = comma + 1;
  }
  return list;
}

/** Decimal seconds with a fraction of any length; what is below a nanosecond is dropped. `undefined` for an empty value. */
export function paxTime(record: PaxRecord): Time | undefined {
  const { bytes, start, end } = record;
  if (start === end) return undefined;
  const negative = bytes[start] === 0x2d;
  let i = negative ? start + 1 : start;
  const first = i;
  let seconds = 0;
  for (; i < end && isDigit(bytes[i]); i += 1) seconds = seconds * 10 + (bytes[i] as number) - 0x30;
  let sound = i > first && seconds < Number.MAX_SAFE_INTEGER;
  let nanoseconds = 0;
  if (sound && i < end) {
    sound = bytes[i] === 0x2e;
    let unit = 100_000_000;
    for (i += 1; i < end && isDigit(bytes[i]); i += 1) {
      nanoseconds += ((bytes[i] as number) - 0x30) * unit;
      unit = Math.floor(unit / 10);
    }
    sound &&= i === end;
  }
  if (!sound) throw malformed(record.place, `${record.key} is not a time: ${shown(record)}`);
  if (!negative) return { seconds, nanoseconds };
  // -1.25 is two seconds before the epoch and 750 ms on top. `0 -` keeps a minus zero out.
  return nanoseconds === 0 ? { seconds: 0 - seconds, nanoseconds: 0 } : { seconds: 0 - seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

export function xattrName(name: string, place: Place): string {
  if (name === '') throw malformed(place, 'extended attribute without a name');
  return name;
}

/** `%41` becomes `A`; libarchive escapes what is not plain ASCII, and the percent sign, this way. */
export function percentDecoded(name: string): string {
  if (!name.includes('%')) return name;
  const bytes = Buffer.from(encodeName(name)).toString('latin1');
  return decodeName(Buffer.from(bytes.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))), 'latin1'));
}

export function base64({ key, bytes, start, end, place }: PaxRecord): Uint8Array {
  const text = bytes.toString('latin1', start, end);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw malformed(place, `${key} is not base64`);
  return new Uint8Array(Buffer.from(text, 'base64'));
}

function shown({ bytes, start, end }: PaxRecord): string {
  return printable(JSON.stringify(bytes.toString('latin1', start, Math.min(end, start + 40))));
}

/** A time as pax writes it: no more digits than needed. */
export function encodeTime({ seconds, nanoseconds }: Time): string {
  if (nanoseconds === 0) return String(seconds);
  const negative = seconds < 0;
  const whole = negative ? -(seconds + 1) : seconds;
  const fraction = String(negative ? 1_000_000_000 - nanoseconds : nanoseconds).padStart(9, '0').replace(/0+$/, '');
  return `${negative ? '-' : ''}${whole}.${fraction}`;
}
