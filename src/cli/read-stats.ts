import type { OpenImage } from '../image/open.ts';
import { count, formatSize } from './units.ts';

/** What `--stats` says: how much of the image was fetched to answer. */
export function readStats(image: OpenImage): string {
  const { requests, bytes } = image.stats();
  const whole = image.layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  const share = whole === 0 ? '' : ` (${((bytes / whole) * 100).toFixed(1)}%)`;
  return `fetched ${formatSize(bytes)} of ${formatSize(whole)}${share} in ${count(requests, 'request')}`;
}
