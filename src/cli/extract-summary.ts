import { printable } from '../core/errors.ts';
import type { ExtractReport } from '../image/extract.ts';
import { count, formatSize } from './units.ts';

/** What was extracted, for people. */
export function extractSummary(report: ExtractReport, target: string | undefined): string {
  const rest = [
    count(report.directories, 'directory', 'directories'),
    ...(report.symlinks > 0 ? [count(report.symlinks, 'symlink')] : []),
    ...(report.hardLinks > 0 ? [count(report.hardLinks, 'hard link')] : []),
    ...(report.specials > 0 ? [count(report.specials, 'device or FIFO', 'devices and FIFOs')] : []),
  ];
  return `extracted ${count(report.files, 'file')} (${formatSize(report.bytes)}), ${rest.join(', ')}${target === undefined ? '' : ` to ${printable(target)}`}`;
}
