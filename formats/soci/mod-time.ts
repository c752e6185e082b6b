import { corrupt } from '../../src/core/errors.ts';
import type { Time } from '../../src/core/types.ts';

/** RFC 3339, section 5.6, as Go's parser takes it: any number of digits in a fraction, of which nine count. */
const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;

/** 0001-01-01T00:00:00Z: what Go has for no time. */
const NO_TIME: Time = { seconds: -62_135_596_800, nanoseconds: 0 };

/**
 * The instant that a record's `mod_time` names (notes §2.4). Zone offsets are what a builder's host had, and mean nothing
 * but the instant. Empty is no time; what is no time stamp is CORRUPT. `path` is for the message.
 */
export function decodeModTime(text: string, path: string): Time {
  if (text === '') return NO_TIME;
  const match = RFC3339.exec(text);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = (match ?? []).slice(1, 7).map(Number);
  const [fraction = '', sign, zoneHour = '0', zoneMinute = '0'] = (match ?? []).slice(7);
  const date = new Date(0);
  // `Date.UTC` takes years below 100 for those of the last century.
  date.setUTCFullYear(year, month - 1, day);
  const exists = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!match || !exists || Number(zoneHour) > 23 || Number(zoneMinute) > 59) throw corrupt(`modification time ${JSON.stringify(text.slice(0, 80))} is no RFC 3339 time`, { path });
  const zone = (Number(zoneHour) * 60 + Number(zoneMinute)) * 60 * (sign === '-' ? -1 : 1);
  return {
    seconds: date.getTime() / 1000 + hour * 3600 + minute * 60 + second - zone,
    nanoseconds: Number(fraction.slice(0, 9).padEnd(9, '0')),
  };
}

/** Seconds from the first to behind the last year that has four digits. */
const YEARS = { from: -62_167_219_200, end: 253_402_300_800 } as const;

/** An instant as Go prints it in UTC: no more digits than needed. Empty for a year that does not have four digits. */
export function encodeModTime({ seconds, nanoseconds }: Time): string {
  if (seconds < YEARS.from || seconds >= YEARS.end) return '';
  const fraction = nanoseconds === 0 ? '' : `.${String(nanoseconds).padStart(9, '0').replace(/0+$/, '')}`;
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}${fraction}Z`;
}
