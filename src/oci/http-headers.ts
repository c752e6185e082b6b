import { corrupt, printable } from '../core/errors.ts';

/** The headers of an answer; names are lower-case. */
export class ResponseHeaders {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(headers: Readonly<Record<string, string | string[] | undefined>>) {
    const values = new Map<string, readonly string[]>();
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) values.set(name.toLowerCase(), typeof value === 'string' ? [value] : value);
    }
    this.#values = values;
  }

  /** The first value. */
  get(name: string): string | undefined {
    return this.#values.get(name)?.[0]?.trim();
  }

  all(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** Content-Length in bytes; undefined when absent or nonsense. */
  get contentLength(): number | undefined {
    return parseCount(this.get('content-length'));
  }

  /** Content-Type without parameters, lower-case. */
  get mediaType(): string | undefined {
    return this.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  }
}

/** A decimal count that is exact as a number. */
export function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

export interface ContentRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** Size of the whole; undefined for `*`. */
  readonly total: number | undefined;
}

/** `Content-Range: bytes a-b/total` (RFC 9110 §14.4). */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/i.exec(text ?? '');
  const start = parseCount(match?.[1]);
  const last = parseCount(match?.[2]);
  if (!match || start === undefined || last === undefined || last < start) return undefined;
  const total = match[3] === '*' ? undefined : parseCount(match[3]);
  if (match[3] !== '*' && (total === undefined || last >= total)) return undefined;
  return { start, end: last + 1, total };
}

/** The end (exclusive) of `Range: 0-b` in an upload's answer; some servers write `bytes=0-b`. */
export function parseUploadRange(text: string | undefined): number | undefined {
  const last = parseCount(/^(?:bytes[= ])?0-(\d+)$/i.exec(text ?? '')?.[1]);
  return last === undefined ? undefined : last + 1;
}

/**
 * The target of `Link: <…>; rel="next"`, resolved; undefined on the last page. It must be on the page's own host: the
 * request carries our token. Servers behind a TLS proxy may get the scheme wrong, which is put right.
 */
export function nextLink(headers: ResponseHeaders, page: URL): URL | undefined {
  for (const header of headers.all('link')) {
    for (const match of header.matchAll(/<([^<>]*)>([^<]*)/g)) {
      if (!/;\s*rel\s*=\s*"?next"?(?:\s*[;,]|\s*$)/i.test(match[2] ?? '') || !URL.canParse(match[1] ?? '', page.href)) continue;
      const next = new URL(match[1] ?? '', page);
      if (next.host !== page.host) throw corrupt(`the next page is said to be on another host: ${printable(next.host)}`);
      return new URL(next.pathname + next.search, page);
    }
  }
  return undefined;
}

/** Texts of `Warning: 299 - "…"` headers (RFC 7234 §5.5), quotes undone. */
export function warningTexts(headers: ResponseHeaders): string[] {
  const texts: string[] = [];
  for (const header of headers.all('warning')) {
    for (const match of header.matchAll(/\b299 \S+ "((?:[^"\\]|\\.)*)"/g)) texts.push((match[1] ?? '').replace(/\\(.)/g, '$1'));
  }
  return texts;
}
