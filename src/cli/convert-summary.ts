import type { ConvertReport, LayerReport } from '../image/convert.ts';
import { formatPlatform } from '../oci/platform.ts';
import { printable } from '../core/errors.ts';
import { formatTable, type Column } from './table.ts';
import { count, formatSeconds, formatSize, shortDigest } from './units.ts';

const COLUMNS: readonly Column[] = [
  { title: 'LAYER' }, { title: 'ACTION' }, { title: 'SIZE', align: 'right' }, { title: 'NEW SIZE', align: 'right' },
  { title: 'RATIO', align: 'right' }, { title: 'ENTRIES', align: 'right' }, { title: 'CHUNKS', align: 'right' },
];
const TIME: Column = { title: 'TIME', align: 'right' };
const REASON: Column = { title: 'LEFT OUT' };

/** What a conversion did, layer by layer, for people. */
export function convertSummary(report: ConvertReport): string {
  const all = report.platforms.flatMap(({ layers }) => layers);
  // One column for each format that describes layers, and one for what they left out.
  const formats = [...new Set(all.flatMap(({ indexes }) => indexes.map(({ format }) => format)))];
  const reasons = all.some(({ indexes }) => indexes.some(({ skipped }) => skipped !== null));
  const columns = [...COLUMNS, ...formats.map((format): Column => ({ title: `${format.toUpperCase()} INDEX`, align: 'right' })), TIME, ...(reasons ? [REASON] : [])];
  const lines: string[] = [];
  for (const { platform, layers } of report.platforms) {
    if (report.platforms.length > 1) lines.push(platform ? printable(formatPlatform(platform)) : 'platform unknown');
    lines.push(formatTable(columns, layers.map((layer) => row(layer, formats))));
  }
  if (report.extraTags.length > 0) lines.push(`${report.dryRun ? 'would also tag' : 'also tagged'} ${report.extraTags.map(printable).join(', ')}: readers look there for the index, so copy both`);
  lines.push(lastLine(report, all));
  return lines.join('\n');
}

function row(layer: LayerReport, formats: readonly string[]): string[] {
  const looked = layer.action !== 'foreign' && layer.action !== 'kept';
  const skipped = layer.indexes.flatMap((index) => (index.skipped === null ? [] : [formats.length > 1 ? `${index.format}: ${index.skipped}` : index.skipped]));
  return [
    shortDigest(layer.source.digest),
    layer.action,
    formatSize(layer.source.size),
    formatSize(layer.target.size),
    layer.ratio.toFixed(2),
    looked ? layer.entries.toLocaleString('en-US') : '',
    looked ? layer.chunks.toLocaleString('en-US') : '',
    ...formats.map((format) => {
      const blob = layer.indexes.find((index) => index.format === format)?.blob;
      return blob ? formatSize(blob.size) : '';
    }),
    formatSeconds(layer.seconds),
    printable(skipped.join('; ')),
  ];
}

function lastLine({ totals, dryRun }: ConvertReport, all: readonly LayerReport[]): string {
  // Platforms share layers, and the totals count each once.
  const layers = [...new Map(all.map((layer) => [`${layer.source.digest} ${layer.diffId}`, layer])).values()];
  const of = (part: number): string => (part === layers.length ? count(part, 'layer') : `${part} of ${count(layers.length, 'layer')}`);
  const time = formatSeconds(totals.seconds);
  const converted = layers.filter(({ action }) => action === 'converted').length;
  const indexed = layers.filter(({ indexes }) => indexes.some(({ blob }) => blob !== null)).length;
  const indexes = `${formatSize(totals.indexBytes)} of index`;
  if (layers.some(({ indexes: own }) => own.length > 0) && !layers.some(({ action }) => action === 'converted' || action === 'passed-through')) {
    return `${dryRun ? 'would index' : 'indexed'} ${of(indexed)} in ${time}: ${indexes} for ${formatSize(totals.targetBytes)}`;
  }
  const also = indexed > 0 ? `, and ${indexes}` : '';
  return `${dryRun ? 'would convert' : 'converted'} ${of(converted)} in ${time}: ${formatSize(totals.sourceBytes)} -> ${formatSize(totals.targetBytes)}${also}`;
}
