import { LazypullError } from '../core/errors.ts';
import type { FormatChoice, RewritingFormat } from '../core/format.ts';
import type { Indexing } from './follow-layer.ts';

export interface ChosenFormats {
  readonly rewriting: { readonly format: RewritingFormat; readonly options: unknown } | undefined;
  readonly indexing: readonly Indexing[];
}

/** Sorts formats by what they do. USAGE for none, for two that make new layers, and for one that is named twice. */
export function chosenFormats(choices: FormatChoice | readonly FormatChoice[]): ChosenFormats {
  const all = [choices].flat() as readonly FormatChoice[];
  if (all.length === 0) throw new LazypullError('USAGE', 'no format is chosen');
  let rewriting: ChosenFormats['rewriting'];
  const indexing: Indexing[] = [];
  for (const { format, options } of all) {
    if (format.kind === 'indexing') {
      if (indexing.some((other) => other.format.name === format.name)) throw new LazypullError('USAGE', `format ${format.name} is chosen twice`);
      indexing.push({ format, options });
    } else {
      if (rewriting) throw new LazypullError('USAGE', `${rewriting.format.name} and ${format.name} both make new layers; an image has one set of them`);
      rewriting = { format, options };
    }
  }
  return { rewriting, indexing };
}
