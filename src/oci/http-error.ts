import { LazypullError, printable, type ErrorCode } from '../core/errors.ts';
import { isRetryableStatus, parseRetryAfter } from './retry.ts';
import type { ResponseHeaders } from './http-headers.ts';

/** A request that failed: by its answer, or without one. */
export class HttpError extends LazypullError {
  /** Of the answer; undefined when the connection failed. */
  readonly status: number | undefined;
  /** Whether the same request may well succeed later. */
  readonly retryable: boolean;
  /** How long the server asks to wait, milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Error codes of the distribution spec, `MANIFEST_UNKNOWN` and the like. */
  readonly reasons: readonly string[];

  constructor(code: ErrorCode, message: string, options: HttpErrorOptions) {
    super(code, message, options);
    this.status = options.status;
    this.retryable = options.retryable ?? false;
    this.retryAfterMs = options.retryAfterMs;
    this.reasons = options.reasons ?? [];
  }

  /** The message without where. */
  get bare(): string {
    const tail = ` (${printable(this.path ?? '')})`;
    return this.message.endsWith(tail) ? this.message.slice(0, -tail.length) : this.message;
  }
}

export interface HttpErrorOptions {
  readonly path: string;
  readonly cause?: unknown;
  readonly status?: number;
  readonly retryable?: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly reasons?: readonly string[];
}

/** Error bodies are read up to here, bytes. */
export const ERROR_BODY_LIMIT = 64 * 1024;
const EXCERPT = 200;

/** A URL for messages: queries carry signatures and upload state, user info carries passwords. */
export function safeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Turns an answer that nobody expected into an error. `secrets` are cut out of whatever the server wrote. */
export function answerError(
  request: { readonly method: string; readonly url: URL },
  answer: { readonly status: number; readonly headers: ResponseHeaders; readonly body: Uint8Array },
  secrets: readonly string[] = [],
): HttpError {
  const said = describeBody(answer.body, answer.headers.get('content-type'), secrets);
  const { status, headers } = answer;
  const limit = status === 429 ? headers.get('ratelimit-limit') : undefined;
  const text = redact([said.text, limit && `limit ${excerpt(limit)}`].filter(Boolean).join('; '), secrets);
  return new HttpError(codeOf(status, said.reasons), `${request.method} answered ${status}${text && `: ${text}`}`, {
    path: safeUrl(request.url),
    status,
    retryable: isRetryableStatus(status),
    retryAfterMs: parseRetryAfter(headers.get('retry-after')),
    reasons: said.reasons,
  });
}

/** Adds what the caller was after in front of a failed request's own words. */
export function explain<E>(error: E, prefix: string): E | HttpError {
  if (!(error instanceof HttpError)) return error;
  const { path = '', status, retryable, retryAfterMs, reasons } = error;
  return new HttpError(error.code, `${prefix}: ${error.bare}`, {
    path, retryable, retryAfterMs, reasons, cause: error, ...(status === undefined ? {} : { status }),
  });
}

/** What an error says, and after it why others could not help. */
export function addTo<E>(error: E, suffix: string): E | HttpError {
  if (!(error instanceof HttpError)) return error;
  const { path = '', status, retryable, retryAfterMs, reasons } = error;
  return new HttpError(error.code, `${error.bare}${suffix}`, { path, retryable, retryAfterMs, reasons, cause: error, ...(status === undefined ? {} : { status }) });
}

/** Nothing has come for as long as one waits. */
export function isTimeout(error: HttpError): boolean {
  return /^UND_ERR_(?:CONNECT|HEADERS|BODY)_TIMEOUT$|^ETIMEDOUT$/.test(causeCode(error));
}

/** Nobody listens there: at once, and for good unless it has been different before. */
export function isRefusal(error: HttpError): boolean {
  return !error.retryable && /^(?:ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENOTFOUND)$/.test(causeCode(error));
}

function causeCode({ cause }: HttpError): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}

export function isStatus(error: unknown, ...statuses: readonly number[]): error is HttpError {
  return error instanceof HttpError && error.status !== undefined && statuses.includes(error.status);
}

export function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length < 4) continue;
    clean = clean.replaceAll(secret, '***').replaceAll(encodeURIComponent(secret), '***');
  }
  return clean;
}

function codeOf(status: number, reasons: readonly string[]): ErrorCode {
  if (status === 401 || status === 403) return 'UNAUTHORIZED';
  if (reasons.includes('DIGEST_INVALID')) return 'DIGEST_MISMATCH';
  if (reasons.includes('SIZE_INVALID')) return 'SIZE_MISMATCH';
  if (status === 404) return 'NOT_FOUND';
  if (status === 413) return 'LIMIT';
  if (status === 405 || status === 501 || reasons.includes('UNSUPPORTED')) return 'UNSUPPORTED';
  return 'NETWORK';
}

interface Said {
  readonly text: string;
  readonly reasons: readonly string[];
}

/** distribution-spec "Error Codes": `{"errors":[{code,message,detail}]}`; anything else is quoted in part. */
function describeBody(body: Uint8Array, contentType: string | undefined, secrets: readonly string[]): Said {
  // Before anything is cut: half a secret is one, too.
  const text = redact(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8').trim(), secrets);
  try {
    const document = JSON.parse(text) as unknown;
    const listed = listErrors(document);
    if (listed) return listed;
  } catch {
    // Not JSON, which proxies in between like to send: quoted below.
  }
  // A page of markup says nothing on one line but that it is one.
  if (/html/i.test(contentType ?? '') || /^<(?:!doctype|html)/i.test(text)) return { text: 'an HTML page', reasons: [] };
  return { text: excerpt(text), reasons: [] };
}

function listErrors(document: unknown): Said | undefined {
  if (typeof document !== 'object' || document === null) return undefined;
  const fields = document as Record<string, unknown>;
  if (!Array.isArray(fields['errors'])) {
    // Token services and some gateways: one plain sentence under one of these names.
    const said = [fields['error'], fields['error_description'], fields['message'], fields['details']].filter((v) => typeof v === 'string');
    return said.length > 0 ? { text: excerpt(said.join(': ')), reasons: [] } : undefined;
  }
  const errors = fields['errors'].slice(0, 3).filter((e): e is Record<string, unknown> => typeof e === 'object' && e !== null);
  const reasons = errors.map((e) => e['code']).filter((code) => typeof code === 'string');
  return { text: errors.map(describeError).filter(Boolean).join('; '), reasons };
}

function describeError(error: Record<string, unknown>): string {
  const { code, message, detail } = error;
  const parts = [code, message].filter((v) => typeof v === 'string' && v !== '').map((v) => excerpt(v as string));
  const more = typeof detail === 'string' ? detail : detail === undefined || detail === null ? '' : JSON.stringify(detail);
  return `${parts.join(': ')}${more && more !== '{}' && more !== message ? ` (${excerpt(more)})` : ''}`;
}

function excerpt(text: string): string {
  return printable(text.length > EXCERPT ? `${text.slice(0, EXCERPT)}…` : text);
}
