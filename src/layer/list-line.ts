/** One line of a list of files. */
export interface ListLine {
  /** A path, or a glob. */
  readonly pattern: string;
  /** The parts of the file that are meant, each from its first byte up to its last; undefined for all of it. */
  readonly parts?: readonly (readonly [number, number])[];
}

/** The parts behind the last tab. */
const PARTS = /^(.+)\t(\d{1,15}-\d{1,15}(?:,\d{1,15}-\d{1,15})*)$/s;

/**
 * Reads `PATH` or, as `run --record` writes it, `PATH<tab>FROM-TO,FROM-TO`: bytes, the last one included, as in HTTP. What does
 * not look like that is a name with a tab in it.
 */
export function parseListLine(line: string): ListLine {
  const [, pattern, text] = PARTS.exec(line) ?? [];
  if (pattern === undefined || text === undefined) return { pattern: line };
  const parts = text.split(',').map((part): readonly [number, number] => {
    const [from = 0, to = 0] = part.split('-').map(Number);
    return [from, to];
  });
  return parts.every(([from, to]) => from <= to) ? { pattern, parts } : { pattern: line };
}

/** The other way: parts in any order, the smaller bound first. */
export function formatListLine({ pattern, parts }: ListLine): string {
  return parts ? `${pattern}\t${parts.map(([from, to]) => `${from}-${to}`).join(',')}` : pattern;
}
