import { printable } from '../core/errors.ts';
import type { VerifyProblem, VerifyReport } from '../image/verify-report.ts';
import { shortDigest, count, formatSize } from './units.ts';

/** The outcome of a verification, for people: what is wrong, or how much was found to be right. */
export function verifySummary(report: VerifyReport): string {
  const { totals, problems, omitted, against } = report;
  const found = problems.length + omitted;
  const looked = `${count(report.images.length, 'image')}, ${count(totals.blobs, 'blob')} (${formatSize(totals.bytes)}), ${totals.entries.toLocaleString('en-US')} entries, ${count(totals.chunks, 'chunk')}`;
  if (report.ok) return [`intact: ${looked}`, ...(against ? [`same tree as ${against.reference}, attribute by attribute and byte for byte`] : [])].join('\n');
  return [
    ...problems.map(problemLine),
    ...(omitted > 0 ? [`... and ${omitted.toLocaleString('en-US')} more`] : []),
    `${count(found, 'problem')} in ${looked}`,
  ].join('\n');
}

function problemLine({ code, message, layer, path }: VerifyProblem): string {
  const place = [...(layer && !message.includes(layer) ? [shortDigest(layer)] : []), ...(path !== undefined && !message.includes(path) ? [path] : [])];
  return printable(`${code}${place.length > 0 ? ` ${place.join(' ')}` : ''}: ${message}`);
}
