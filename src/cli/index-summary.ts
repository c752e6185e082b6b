import { printable } from '../core/errors.ts';
import type { IndexAction, IndexedImage, IndexReport } from '../image/index-image.ts';
import { formatPlatform } from '../oci/platform.ts';
import { formatTable, type Column } from './table.ts';
import { count, formatSeconds, formatSize, shortDigest } from './units.ts';

const COLUMNS: readonly Column[] = [
  { title: 'LAYER' }, { title: 'SIZE', align: 'right' }, { title: 'INDEX', align: 'right' }, { title: 'SHARE', align: 'right' },
  { title: 'ENTRIES', align: 'right' }, { title: 'CHUNKS', align: 'right' }, { title: 'TIME', align: 'right' },
];
const REASON: Column = { title: 'LEFT OUT' };

const ACTIONS: Readonly<Record<IndexAction, string>> = {
  indexed: 'indexed',
  unchanged: 'this very index is there already',
  exists: 'has an index already, --force adds another',
  nothing: 'no layer was indexed',
};

/** What indexing did, image by image and layer by layer, for people. */
export function indexSummary(report: IndexReport): string {
  const { totals } = report;
  const share = totals.layerBytes === 0 ? '' : ` (${((totals.indexBytes / totals.layerBytes) * 100).toFixed(2)}%)`;
  return [
    ...report.images.flatMap((image) => imageLines(image, report)),
    `${report.dryRun ? 'would index' : 'indexed'} ${totals.indexedLayers === totals.layers ? '' : `${totals.indexedLayers} of `}${count(totals.layers, 'layer')} in ${formatSeconds(totals.seconds)}: ${formatSize(totals.indexBytes)} of index for ${formatSize(totals.layerBytes)}${share}`,
  ].join('\n');
}

function imageLines({ platform, digest, action, layers }: IndexedImage, { images, format }: IndexReport): string[] {
  const name = platform ? printable(formatPlatform(platform)) : shortDigest(digest);
  const title = action === 'indexed' ? name : `${name}: ${ACTIONS[action]}`;
  const columns = layers.some(({ indexes }) => indexes.some(({ skipped }) => skipped !== null)) ? [...COLUMNS, REASON] : COLUMNS;
  const table = layers.map(({ source, seconds, indexes }) => {
    const index = indexes.find((own) => own.format === format);
    const left = [shortDigest(source.digest), formatSize(source.size)];
    if (!index?.blob) return [...left, '', '', '', '', formatSeconds(seconds), printable(index?.skipped ?? '')];
    const share = source.size === 0 ? '' : `${((index.blob.size / source.size) * 100).toFixed(2)}%`;
    return [...left, formatSize(index.blob.size), share, index.entries.toLocaleString('en-US'), index.chunks.toLocaleString('en-US'), formatSeconds(seconds), ''];
  });
  return [...(images.length > 1 || action !== 'indexed' ? [title] : []), ...(table.length > 0 ? [formatTable(columns, table)] : [])];
}
