import { request as send, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Faults } from './fault-registry.ts';
import { faultyBody, faultyHead, refuse, type Fault } from './fault-rules.ts';

/** One request, with counts that grow while it runs. */
export interface LogEntry {
  /** Which server it came to: the registry, its token service, or the one that blobs are redirected to. */
  readonly origin: 'registry' | 'token' | 'other';
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** 0 while it runs. */
  status: number;
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the request's and the answer's body. */
  received: number;
  sent: number;
  complete: boolean;
}

export interface ProxyContext {
  /** The registry behind the door. */
  readonly inner: URL;
  readonly faults: Faults;
  readonly origin: () => string;
  /** Makes a link of the other origin to a path of ours; absent on that origin. */
  readonly link: ((path: string) => string) | undefined;
}

/** Upload sessions as the switches see them: state expected next, requests so far, and whether a short chunk has come. */
const sessions = new Map<string, { state: string; uses: number; short: boolean }>();

/** Passes a request on to the registry and its answer back, as far as the switches and faults let it. */
export async function forward(request: IncomingMessage, response: ServerResponse, entry: LogEntry, struck: readonly Fault[], context: ProxyContext): Promise<void> {
  const { faults } = context;
  if (faults.latency > 0) await sleep(faults.latency);
  for (const fault of struck) {
    if (fault.kind === 'delay') await sleep(fault.ms);
    if (fault.kind === 'reset' && fault.after === undefined) return void request.socket.resetAndDestroy();
    if (fault.kind === 'answer') {
      response.writeHead(fault.status, fault.headers).end(request.method === 'HEAD' ? undefined : fault.body);
      return;
    }
    if (fault.kind === 'status') {
      const { retryAfter } = fault;
      const after = retryAfter === undefined ? undefined : typeof retryAfter === 'number' ? String(retryAfter) : retryAfter.toUTCString();
      return refuse(response, fault.status, fault.code ?? 'INJECTED', { ...(after !== undefined && { 'Retry-After': after }), ...fault.headers });
    }
  }
  const url = new URL(request.url ?? '/', context.inner);
  const kind = /\/(manifests|referrers|tags)\/[^/]+$/.exec(url.pathname)?.[1] ?? (/\/blobs\/uploads\//.test(url.pathname) ? 'uploads' : 'blobs');
  if (refusedBySwitch(request, response, url, kind, context)) return;
  const headers: IncomingHttpHeaders = { ...request.headers, host: context.inner.host };
  delete headers.authorization;
  delete headers.expect;
  if (kind === 'blobs' && faults.ranges === 'ignored') delete headers.range;
  if (kind === 'uploads' && faults.patch === 'unchecked') delete headers['content-range'];

  const onward = send(url, { method: request.method ?? 'GET', headers, agent: false });
  onward.on('error', () => undefined);
  // Whoever leaves takes the other side along.
  response.once('close', () => onward.destroy());
  const resetUpload = struck.find((fault) => fault.kind === 'reset-upload');
  const body = pipeline(counted(request, entry, resetUpload?.after, () => request.socket.resetAndDestroy()), onward).catch(() => undefined);
  const [answer] = (await once(onward, 'response')) as [IncomingMessage];
  await passBack(request, response, answer, entry, struck, kind, context);
  await body;
}

async function passBack(request: IncomingMessage, response: ServerResponse, answer: IncomingMessage, entry: LogEntry, struck: readonly Fault[], kind: string, context: ProxyContext): Promise<void> {
  const { faults } = context;
  const status = answer.statusCode ?? 500;
  const type = answer.headers['content-type'] ?? '';
  if (kind === 'manifests' && faults.strictAccept && status === 200 && !(request.headers.accept ?? '').includes(type)) {
    answer.resume();
    return refuse(response, 404, 'MANIFEST_UNKNOWN');
  }
  const head: Record<string, string | string[] | number | undefined> = { ...answer.headers };
  for (const hop of ['connection', 'keep-alive', 'transfer-encoding']) delete head[hop];
  if (!faults.digestHeader) delete head['docker-content-digest'];
  if (faults.referrers === 'off' || faults.referrers === 'silent') delete head['oci-subject'];
  if (kind === 'manifests' && status === 200) head['content-type'] = `${type}${faults.typeSuffix}`;
  if (kind === 'blobs' && faults.ranges === 'ignored') delete head['accept-ranges'];
  if (status === 206) head['content-range'] = wrongRange(String(head['content-range']), faults.ranges);
  // The Location of a blob that is there now is its path.
  if (kind === 'uploads' && status === 201) pushedPaths(context).add(String(head['location']));
  if (kind === 'uploads' && typeof head['location'] === 'string') changeLocation(head, faults, context.origin());
  if (faults.minChunk !== undefined && kind === 'uploads' && request.method === 'POST') head['oci-chunk-min-length'] = faults.minChunk;

  let source: AsyncIterable<Uint8Array> = answer;
  if (kind === 'referrers' && faults.referrers === 'wrong-type' && status === 200) {
    const changed = await withWrongTypes(answer);
    head['content-length'] = changed.length;
    source = (async function* () {
      yield changed;
    })();
  }
  const length = Number(head['content-length'] ?? 0);
  response.writeHead(status, faultyHead(struck, head));
  const cut = (): void => void request.socket.resetAndDestroy();
  const sent = async function* (): AsyncGenerator<Uint8Array> {
    for await (const bytes of faultyBody(request.method === 'HEAD' ? [] : struck, source, length, cut)) {
      entry.sent += bytes.length;
      yield bytes;
    }
  };
  await pipeline(sent(), response).catch(() => undefined);
}

/** Behaviour that shows before the registry is asked. */
function refusedBySwitch(request: IncomingMessage, response: ServerResponse, url: URL, kind: string, context: ProxyContext): boolean {
  const { faults, link } = context;
  const { method = 'GET' } = request;
  const isRead = method === 'GET' || method === 'HEAD';
  if (kind === 'referrers') {
    if (faults.referrers === 'off') {
      response.writeHead(404, { 'Content-Type': 'text/plain; charset=utf-8' }).end('404 page not found\n');
      return true;
    }
    if (faults.referrers === 'no-filter') url.searchParams.delete('artifactType');
  }
  if (kind === 'tags' && faults.tagsPage !== undefined) url.searchParams.set('n', String(Math.min(Number(url.searchParams.get('n') ?? Infinity), faults.tagsPage)));
  if (kind === 'manifests' && method === 'HEAD' && faults.headManifest === 'refused') {
    refuse(response, 405, 'UNSUPPORTED');
    return true;
  }
  const tag = /\/manifests\/([^/:]+)$/.exec(url.pathname);
  if (tag && method === 'PUT' && faults.immutableTags && pushedPaths(context).has(url.pathname)) {
    refuse(response, 409, 'TAG_INVALID');
    return true;
  }
  if (tag && method === 'PUT') response.once('finish', () => response.statusCode === 201 && pushedPaths(context).add(url.pathname));
  if (kind === 'blobs' && faults.isolated && link && url.pathname !== '/v2/' && !pushedPaths(context).has(url.pathname)) {
    refuse(response, 404, 'BLOB_UNKNOWN');
    return true;
  }
  if (kind === 'blobs' && isRead && faults.redirectBlobs && link && url.pathname !== '/v2/') {
    response.writeHead(faults.redirectStatus, { Location: link(url.pathname), 'Content-Length': 0 }).end();
    return true;
  }
  return kind === 'uploads' && refusedUpload(request, response, url, context);
}

function refusedUpload(request: IncomingMessage, response: ServerResponse, url: URL, context: ProxyContext): boolean {
  const { faults } = context;
  if (url.searchParams.has('mount') && faults.mount === 'forbidden') {
    refuse(response, 403, 'DENIED');
    return true;
  }
  const mounted = `/v2/${url.searchParams.get('from') ?? ''}/blobs/${url.searchParams.get('mount') ?? ''}`;
  const isStrange = faults.isolated && url.searchParams.has('mount') && !pushedPaths(context).has(mounted);
  if (faults.mount === 'refused' || isStrange) for (const name of ['mount', 'from']) url.searchParams.delete(name);
  const id = /\/uploads\/([^/]+)$/.exec(url.pathname)?.[1];
  if (id === undefined) return false;
  const session = sessions.get(id) ?? { state: '', uses: 0, short: false };
  sessions.set(id, session);
  session.uses += 1;
  const isStale = faults.uploadLocation === 'stateful' && new URLSearchParams(url.search).get('_state') !== session.state;
  if (session.uses > (faults.sessionUses ?? Number.POSITIVE_INFINITY) || isStale) {
    refuse(response, 404, 'BLOB_UPLOAD_UNKNOWN');
    return true;
  }
  if (request.method === 'PATCH' && faults.minChunk !== undefined) {
    const isShort = Number(request.headers['content-length'] ?? Infinity) < faults.minChunk;
    if (session.short) {
      refuse(response, 400, 'SIZE_INVALID');
      return true;
    }
    session.short = isShort;
  }
  return false;
}

function changeLocation(head: Record<string, string | string[] | number | undefined>, faults: Faults, origin: string): void {
  const location = String(head['location']);
  const id = /\/uploads\/([^/?]+)$/.exec(location)?.[1];
  let changed = location;
  if (faults.uploadLocation === 'stateful' && id !== undefined) {
    const session = sessions.get(id) ?? { state: '', uses: 0, short: false };
    session.state = `${randomBytes(9).toString('base64')}+/=Aa`;
    sessions.set(id, session);
    changed += `?_state=${encodeURIComponent(session.state)}`;
  }
  head['location'] = faults.uploadLocation === 'relative' ? changed : origin + changed;
}

function wrongRange(header: string, ranges: Faults['ranges']): string {
  const [, first = '', last = '', total = ''] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header) ?? [];
  if (ranges === 'wrong') return `bytes ${Number(first) + 1}-${Number(last) + 1}/${total}`;
  return ranges === 'wrong-total' ? `bytes ${first}-${last}/${Number(total) + 1}` : header;
}

async function withWrongTypes(answer: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of answer as AsyncIterable<Buffer>) parts.push(part);
  const index = JSON.parse(Buffer.concat(parts).toString('utf8')) as { manifests: Record<string, unknown>[] };
  const manifests = index.manifests.map(({ annotations: _gone, ...one }) => ({ ...one, artifactType: 'application/vnd.oci.image.config.v1+json' }));
  return Buffer.from(JSON.stringify({ ...index, manifests }));
}

const pushed = new WeakMap<Faults, Set<string>>();

/** Paths of tags and blobs that came in through the registry of these switches. */
function pushedPaths({ faults }: ProxyContext): Set<string> {
  const paths = pushed.get(faults) ?? new Set<string>();
  pushed.set(faults, paths);
  return paths;
}

async function* counted(request: IncomingMessage, entry: LogEntry, cutAfter: number | undefined, cut: () => void): AsyncGenerator<Uint8Array> {
  for await (const part of request as AsyncIterable<Buffer>) {
    entry.received += part.length;
    yield part;
    if (cutAfter !== undefined && entry.received >= cutAfter) return cut();
  }
}
