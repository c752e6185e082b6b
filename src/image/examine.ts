import type { BrokenLayer, Examination, Format } from '../core/format.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { ReadImage } from './image-set.ts';
import { isFinding } from './verify-report.ts';

/** What formats say about an image, and which of them have documents about it. */
export interface ImageExamination extends Examination {
  readonly formats: readonly Format<unknown>[];
}

/** What all formats say about an image as a whole. `alone`: no other image is spoken of, so that notes need not say which one they mean. */
export async function examineImage(image: ReadImage, formats: readonly Format<unknown>[], alone: boolean, signal?: AbortSignal): Promise<ImageExamination> {
  const problems: string[] = [];
  const notes: string[] = [];
  const speaking: Format<unknown>[] = [];
  const stored = image.layers[0]?.stored.image;
  // Without layers there is nothing to be lazy about.
  if (!stored) return { problems, notes, formats: speaking };
  const which = alone ? '' : `${nameOf(image)}: `;
  for (const format of formats) {
    if (!format.examine) continue;
    const said = await format.examine(stored, signal, await brokenLayers(image, format, signal));
    if (!said) continue;
    speaking.push(format);
    problems.push(...said.problems);
    notes.push(...said.notes.map((note) => which + note));
  }
  return { problems, notes, formats: speaking };
}

/** Images of an index that a format which describes images from outside has nothing about, though it has about others: one line each. */
export function leftOut(examined: ReadonlyMap<ReadImage, readonly Format<unknown>[]>): string[] {
  const lines: string[] = [];
  for (const format of new Set([...examined.values()].flat())) {
    if (format.kind !== 'indexing') continue;
    for (const [image, formats] of examined) {
      if (image.layers.length > 0 && !formats.includes(format)) lines.push(`${nameOf(image)}: there is no ${format.name} index about this image, so nothing is lazy by it`);
    }
  }
  return lines;
}

function nameOf({ platform, descriptor }: ReadImage): string {
  return platform ? formatPlatform(platform) : descriptor.digest;
}

/** Layers in a format that it cannot open. What has been opened before is not read again; layers that would be pulled whole are not tried. */
async function brokenLayers({ layers }: ReadImage, format: Format<unknown>, signal: AbortSignal | undefined): Promise<BrokenLayer[]> {
  const broken: BrokenLayer[] = [];
  for (const layer of layers) {
    try {
      if (!(await layer.formats(signal)).includes(format) || (await format.eager?.(layer.stored, signal)) !== undefined) continue;
      await layer.openAs(format, signal);
    } catch (error) {
      if (!isFinding(error)) throw error;
      broken.push({ descriptor: layer.descriptor, error });
    }
  }
  return broken;
}
