import { printable } from '../core/errors.ts';
import type { InspectedImage, InspectedLayer, InspectReport, InspectTotals } from '../image/inspect.ts';
import { formatPlatform } from '../oci/platform.ts';
import { formatTable, type Column } from './table.ts';
import { count, formatSize, shortDigest, shortDigests } from './units.ts';

const COLUMNS: readonly Column[] = [
  { title: 'LAYER' }, { title: 'FORMAT' }, { title: 'SIZE', align: 'right' }, { title: 'ENTRIES', align: 'right' }, { title: 'CHUNKS', align: 'right' },
  { title: 'INDEX', align: 'right' }, { title: 'OVERHEAD', align: 'right' }, { title: 'READ FIRST', align: 'right' },
];

/** An image for people: a table of layers per platform, and under each layer what it says about itself. */
export function inspectText(report: InspectReport, bold: (text: string) => string): string {
  const { reference, digest, images, others, notes, problems } = report;
  const parts = [`${bold(printable(reference))}  ${digest}`];
  for (const image of images) parts.push(imageText(image, images.length > 1, bold));
  if (others.length > 0) parts.push(`and ${count(others.length, 'other document')} (attestations, artifacts): ${others.map((other) => shortDigest(other.digest)).join(', ')}`);
  if (notes.length > 0) parts.push(notes.map((note) => `note: ${printable(shortDigests(note))}`).join('\n'));
  if (problems.length > 0) parts.push(problems.map((problem) => `problem: ${printable(problem)}`).join('\n'));
  return parts.join('\n\n');
}

function imageText(image: InspectedImage, named: boolean, bold: (text: string) => string): string {
  const rows = image.layers.map(row);
  if (rows.length > 1) rows.push(totalRow(image.totals));
  return [
    ...(named ? [`${bold(image.platform ? printable(formatPlatform(image.platform)) : 'no platform')}  ${image.digest}`] : []),
    formatTable(COLUMNS, rows),
    ...image.layers.flatMap(facts),
  ].join('\n');
}

function row({ digest, formats, size, lazy, problem, eager }: InspectedLayer): string[] {
  const names = formats.join(', ') || 'none';
  const left = [shortDigest(digest), problem ? `${names} (broken)` : eager ? `${names} (read whole)` : names, formatSize(size)];
  if (!lazy) return [...left, '', '', '', '', formatSize(size)];
  return [...left, lazy.entries.toLocaleString('en-US'), lazy.chunks.toLocaleString('en-US'), formatSize(lazy.indexBytes), `${lazy.overheadPercent.toFixed(1)}%`, formatSize(lazy.firstReadBytes)];
}

function totalRow(totals: InspectTotals): string[] {
  const share = totals.size === 0 ? 0 : (totals.indexBytes / totals.size) * 100;
  return ['total', '', formatSize(totals.size), totals.entries.toLocaleString('en-US'), totals.chunks.toLocaleString('en-US'), formatSize(totals.indexBytes), `${share.toFixed(1)}%`, formatSize(totals.firstReadBytes)];
}

/** Annotations as they are on the descriptor, and the format's own facts. */
function facts({ digest, annotations, lazy, problem, eager }: InspectedLayer): string[] {
  const lines = [
    ...(problem ? [['problem', problem]] : []),
    ...(eager ? [['read whole', eager]] : []),
    ...Object.entries(annotations),
    ...Object.entries(lazy?.details ?? {}).map(([name, value]) => [name, String(value)]),
  ].map(([name, value]) => `  ${printable(name as string)}: ${printable(value as string)}`);
  return lines.length > 0 ? ['', shortDigest(digest), ...lines] : [];
}
