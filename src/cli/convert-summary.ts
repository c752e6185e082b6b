import type { ConvertReport } from '../image/convert.ts';
import { formatPlatform } from '../oci/platform.ts';
import { printable } from '../core/errors.ts';
import { formatTable, type Column } from './table.ts';
import { count, formatSeconds, formatSize, shortDigest } from './units.ts';

const COLUMNS: readonly Column[] = [
  { title: 'LAYER' }, { title: 'ACTION' }, { title: 'SIZE', align: 'right' }, { title: 'NEW SIZE', align: 'right' },
  { title: 'RATIO', align: 'right' }, { title: 'ENTRIES', align: 'right' }, { title: 'CHUNKS', align: 'right' }, { title: 'TIME', align: 'right' },
];

/** What a conversion did, layer by layer, for people. */
export function convertSummary(report: ConvertReport): string {
  const lines: string[] = [];
  for (const { platform, layers } of report.platforms) {
    if (report.platforms.length > 1) lines.push(platform ? printable(formatPlatform(platform)) : 'platform unknown');
    lines.push(formatTable(COLUMNS, layers.map((layer) => [
      shortDigest(layer.source.digest),
      layer.action,
      formatSize(layer.source.size),
      formatSize(layer.target.size),
      layer.ratio.toFixed(2),
      layer.action === 'foreign' ? '' : layer.entries.toLocaleString('en-US'),
      layer.action === 'foreign' ? '' : layer.chunks.toLocaleString('en-US'),
      formatSeconds(layer.seconds),
    ])));
  }
  const { totals } = report;
  // Platforms share layers, and the totals count each once.
  const layers = new Map(report.platforms.flatMap((platform) => platform.layers.map(({ source, diffId, action }) => [`${source.digest} ${diffId}`, action] as const)));
  const converted = [...layers.values()].filter((action) => action === 'converted').length;
  const part = converted === layers.size ? '' : `${converted} of `;
  if (report.extraTags.length > 0) lines.push(`${report.dryRun ? 'would also tag' : 'also tagged'} ${report.extraTags.map(printable).join(', ')}: readers look there for the index, so copy both`);
  lines.push(`${report.dryRun ? 'would convert' : 'converted'} ${part}${count(layers.size, 'layer')} in ${formatSeconds(totals.seconds)}: ${formatSize(totals.sourceBytes)} -> ${formatSize(totals.targetBytes)}`);
  return lines.join('\n');
}
