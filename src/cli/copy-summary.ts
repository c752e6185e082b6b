import type { CopyReport } from '../image/copy.ts';
import { count, formatSize } from './units.ts';

/** What a copy did, for people. */
export function copySummary(report: CopyReport): string {
  const { action, blobs, bytes, manifests, referrers, foreign } = report;
  if (action === 'unchanged') return `${report.target} is this image already`;
  const verb = action === 'planned' ? 'would copy' : 'copied';
  const moved = blobs.copied === blobs.total ? count(blobs.total, 'blob') : `${blobs.copied} of ${count(blobs.total, 'blob')}`;
  const rest = [
    ...(blobs.existing > 0 ? [`${blobs.existing} there already`] : []),
    ...(blobs.mounted > 0 ? [`${blobs.mounted} mounted from the other repository`] : []),
  ];
  return [
    `${verb} ${moved} (${formatSize(bytes.copied)})${rest.length > 0 ? `, ${rest.join(', ')}` : ''}, and ${count(manifests.total, 'manifest')}`,
    ...(report.rewritten ? [`the index lists only the wanted platforms: its digest is ${report.digest}`] : []),
    ...(referrers > 0 ? [`with ${count(referrers, 'referrer')}`] : []),
    ...(foreign.length > 0 ? [`left out ${count(foreign.length, 'foreign layer')} that no registry holds`] : []),
  ].join('\n');
}
