import type { Examination, Format } from '../core/format.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { ReadImage } from './image-set.ts';

/** What all formats say about an image as a whole. `alone`: no other image is spoken of, so that notes need not say which one they mean. */
export async function examineImage(image: ReadImage, formats: readonly Format<unknown>[], alone: boolean, signal?: AbortSignal): Promise<Examination> {
  const problems: string[] = [];
  const notes: string[] = [];
  const stored = image.layers[0]?.stored.image;
  // Without layers there is nothing to be lazy about.
  if (!stored) return { problems, notes };
  const which = alone ? '' : `${image.platform ? formatPlatform(image.platform) : image.descriptor.digest}: `;
  for (const format of formats) {
    const said = await format.examine?.(stored, signal);
    if (!said) continue;
    problems.push(...said.problems);
    notes.push(...said.notes.map((note) => which + note));
  }
  return { problems, notes };
}
