import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What can go wrong with one answer. */
export type Fault =
  /** An error instead of the answer; `retryAfter` in seconds, or as a date. */
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter?: number | Date; readonly code?: string; readonly headers?: Readonly<Record<string, string>> }
  /** Any other answer instead: an HTML page of a captive portal, say. */
  | { readonly kind: 'answer'; readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }
  /** The connection is reset after so many bytes of the answer's body; before the answer's head when absent. */
  | { readonly kind: 'reset'; readonly after?: number }
  /** The connection is reset after so many bytes of the request's body. */
  | { readonly kind: 'reset-upload'; readonly after: number }
  /** The body is that many bytes shorter, and so says its Content-Length. */
  | { readonly kind: 'shorten'; readonly bytes: number }
  /** The body is that many bytes longer, and so says its Content-Length. */
  | { readonly kind: 'lengthen'; readonly bytes: number }
  /** One byte of the body is another. */
  | { readonly kind: 'flip'; readonly at: number }
  /** The answer's first `pieces` pieces of `size` bytes come one by one, `delay` ms apart; then the rest. */
  | { readonly kind: 'drip'; readonly size: number; readonly delay: number; readonly pieces: number }
  /** The answer stops after so many bytes of body and does not go on. */
  | { readonly kind: 'stall'; readonly after: number }
  /** The answer comes that many ms later. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Headers of the answer are set to other values, or removed. */
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string | undefined>> };

/** Where and how often a fault strikes. Rules are tried in order; all that fit strike together. */
export interface FaultRule {
  readonly fault: Fault;
  readonly method?: string;
  /** Against path and query. */
  readonly path?: RegExp;
  /** Fitting requests that are spared first. */
  readonly skip?: number;
  /** How many requests are struck; absent means all. */
  readonly times?: number;
}

/** The rules in force, with how often they have been used. */
export class FaultRules {
  readonly #rules: { readonly rule: FaultRule; seen: number }[] = [];

  add(rule: FaultRule): void {
    this.#rules.push({ rule, seen: 0 });
  }

  clear(): void {
    this.#rules.length = 0;
  }

  /** Faults for this request; asking counts as the request. */
  strike(method: string, target: string): Fault[] {
    const faults: Fault[] = [];
    for (const one of this.#rules) {
      const { rule } = one;
      if ((rule.method !== undefined && rule.method !== method) || (rule.path && !rule.path.test(target))) continue;
      const turn = one.seen++ - (rule.skip ?? 0);
      if (turn >= 0 && turn < (rule.times ?? Number.POSITIVE_INFINITY)) faults.push(rule.fault);
    }
    return faults;
  }
}

/** The answer's head as the faults leave it. */
export function faultyHead(faults: readonly Fault[], headers: Record<string, string | string[] | number | undefined>): Record<string, string | string[] | number> {
  const head: Record<string, string | string[] | number | undefined> = { ...headers };
  for (const fault of faults) {
    const length = Number(head['content-length'] ?? 0);
    if (fault.kind === 'shorten') head['content-length'] = Math.max(0, length - fault.bytes);
    if (fault.kind === 'lengthen') head['content-length'] = length + fault.bytes;
    if (fault.kind === 'headers') for (const [name, value] of Object.entries(fault.headers)) head[name.toLowerCase()] = value;
  }
  return Object.fromEntries(Object.entries(head).filter((pair): pair is [string, string | string[] | number] => pair[1] !== undefined));
}

/** The answer's body as the faults leave it. `cut` resets the connection. */
export async function* faultyBody(faults: readonly Fault[], body: AsyncIterable<Uint8Array>, length: number, cut: () => void): AsyncGenerator<Uint8Array> {
  let stream = body;
  for (const fault of faults) stream = apply(fault, stream, length, cut);
  yield* stream;
}

async function* apply(fault: Fault, body: AsyncIterable<Uint8Array>, length: number, cut: () => void): AsyncGenerator<Uint8Array> {
  switch (fault.kind) {
    case 'reset':
      for await (const { bytes, start } of positioned(body)) {
        const keep = (fault.after ?? 0) - start;
        yield bytes.subarray(0, Math.max(0, keep));
        if (keep > bytes.length) continue;
        // What has been written is on its way before the connection goes.
        await sleep(20);
        cut();
        throw new Error('reset by a fault');
      }
      return;
    case 'stall':
      for await (const { bytes, start } of positioned(body)) {
        const keep = fault.after - start;
        yield bytes.subarray(0, Math.max(0, keep));
        if (keep < bytes.length) await new Promise(() => undefined);
      }
      return;
    case 'shorten':
      for await (const { bytes, start } of positioned(body)) yield bytes.subarray(0, Math.max(0, length - fault.bytes - start));
      return;
    case 'lengthen':
      yield* body;
      yield Buffer.alloc(fault.bytes, 0x21);
      return;
    case 'flip':
      for await (const { bytes, start } of positioned(body)) {
        const at = fault.at - start;
        if (at < 0 || at >= bytes.length) yield bytes;
        else yield Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 1 : byte));
      }
      return;
    case 'drip': {
      let pieces = 0;
      for await (const bytes of body) {
        let at = 0;
        for (; pieces < fault.pieces && at < bytes.length; at += fault.size, pieces += 1) {
          yield bytes.subarray(at, at + fault.size);
          await sleep(fault.delay);
        }
        yield bytes.subarray(at);
      }
      return;
    }
    default:
      yield* body;
  }
}

async function* positioned(body: AsyncIterable<Uint8Array>): AsyncGenerator<{ bytes: Uint8Array; start: number }> {
  let start = 0;
  for await (const bytes of body) {
    yield { bytes, start };
    start += bytes.length;
  }
}

/** An error in the form of the distribution-spec. */
export function refuse(response: ServerResponse, status: number, code: string, headers: Readonly<Record<string, string>> = {}): void {
  const body = JSON.stringify({ errors: [{ code, message: `${code.toLowerCase()} (fault)` }] });
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

export async function bodyText(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}
