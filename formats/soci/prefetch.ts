import { corrupt, LazypullError, printable } from '../../src/core/errors.ts';
import { parseObject } from '../../src/oci/documents.ts';

/** Spans `start` to `end`, both included. */
export interface SpanRun {
  readonly start: number;
  readonly end: number;
}

/** Bytes of a prefetch list that are read; a run of spans takes about 40. */
export const PREFETCH_LIMIT = 4 << 20;

const VERSION = '1.0';
/** Span ids are int32. */
const MAX_SPAN_ID = 2 ** 31 - 1;

/** The bytes of a prefetch list (notes §7.6): sorted, and runs that overlap or touch made one. There has to be one run at least. */
export function encodePrefetch(runs: readonly SpanRun[]): Uint8Array {
  const spans = mergeRuns(runs).map(({ start, end }) => ({ start_span: start, end_span: end }));
  return Buffer.from(JSON.stringify({ version: VERSION, prefetch_spans: spans }), 'utf8');
}

/**
 * Reads a stranger's prefetch list; `what` names it in messages. The runs come sorted and merged; `priority`, which nobody
 * uses, is passed over. Empty for a list without spans. UNSUPPORTED for another version, CORRUPT for other nonsense.
 */
export function decodePrefetch(bytes: Uint8Array, what: string): readonly SpanRun[] {
  const { version, prefetch_spans: spans } = parseObject(bytes, what);
  if (version !== VERSION) {
    if (typeof version !== 'string') throw corrupt(`${what} has no version`);
    throw new LazypullError('UNSUPPORTED', `${what} has version ${printable(version.slice(0, 40))}, not ${VERSION}`);
  }
  if (spans === undefined || spans === null) return [];
  if (!Array.isArray(spans)) throw corrupt(`${what}: prefetch_spans is not a list`);
  return mergeRuns(spans.map((span: unknown, i) => {
    const { start_span: start, end_span: end } = (span ?? {}) as Record<string, unknown>;
    if (!isSpanId(start) || !isSpanId(end) || start > end) throw corrupt(`${what}: entry ${i + 1} of prefetch_spans is not a run of spans`);
    return { start, end };
  }));
}

/** Sorted; what overlaps or touches becomes one. */
export function mergeRuns(runs: readonly SpanRun[]): readonly SpanRun[] {
  const merged: { start: number; end: number }[] = [];
  for (const { start, end } of [...runs].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last && start <= last.end + 1) last.end = Math.max(last.end, end);
    else merged.push({ start, end });
  }
  return merged;
}

function isSpanId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_SPAN_ID;
}
