import type { IncomingMessage, ServerResponse } from 'node:http';
import { openLayout, type LayoutStore } from '../layout.ts';
import { Blobs } from './blobs.ts';
import { ApiError, page, sendError, sendJson, type Exchange } from './http.ts';
import { Manifests } from './manifests.ts';
import { isRepository, Repositories } from './repositories.ts';
import { Uploads } from './uploads.ts';

export interface RegistryHandlerOptions {
  /** Refuses everything but GET and HEAD, and does not create the layout. */
  readonly readOnly?: boolean;
  /** Upload sessions that are not used for so long are dropped, ms; default one hour. */
  readonly uploadIdle?: number;
  /** Called when an answer is complete or its connection is gone. */
  readonly onRequest?: (record: RequestRecord) => void;
}

/** One answered request. */
export interface RequestRecord {
  readonly method: string;
  /** Path and query as sent. */
  readonly target: string;
  readonly status: number;
  /** The `Range` header, if any. */
  readonly range: string | undefined;
  /** Bytes of the request's body that were taken in, and of the answer's that were handed to the connection. */
  readonly received: number;
  readonly sent: number;
  /** Whether the answer went out whole. */
  readonly complete: boolean;
}

/** An OCI registry as a request handler, for whoever brings the HTTP server. */
export interface RegistryHandler {
  /** Answers one request. Never rejects. */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Drops open uploads. */
  close(): Promise<void>;
}

/** distribution-spec 1.1 over a layout folder, which is created with the first push unless `readOnly`. */
export async function createRegistryHandler(folder: string, options: RegistryHandlerOptions = {}): Promise<RegistryHandler> {
  const layout = await openLayout(folder, { create: !options.readOnly });
  return new Handler(layout, options);
}

type Route = (exchange: Exchange, parts: readonly string[]) => Promise<void> | void;

class Handler implements RegistryHandler {
  readonly #layout: LayoutStore;
  readonly #readOnly: boolean;
  readonly #onRequest: ((record: RequestRecord) => void) | undefined;
  readonly #uploads: Uploads;
  readonly #routes: readonly (readonly [RegExp, Readonly<Record<string, Route>>])[];

  constructor(layout: LayoutStore, options: RegistryHandlerOptions) {
    this.#layout = layout;
    this.#readOnly = options.readOnly ?? false;
    this.#onRequest = options.onRequest;
    const repositories = new Repositories(layout);
    const manifests = new Manifests(layout, repositories);
    const blobs = new Blobs(layout, manifests);
    const uploads = new Uploads(layout, options.uploadIdle ?? 3600_000);
    this.#uploads = uploads;

    const getManifest: Route = (x, [name = '', reference = '']) => manifests.get(x, name, reference);
    const getBlob: Route = (x, [, digest = '']) => blobs.get(x, digest);
    const tagsList: Route = async (x, [name = '']) => {
      const tags = await repositories.tags(name);
      if (!tags) throw new ApiError(404, 'NAME_UNKNOWN', 'repository is not known here', { detail: { name } });
      const { items, headers } = page(x, tags, `/v2/${name}/tags/list`);
      sendJson(x, 200, { name, tags: items }, headers);
    };
    const catalog: Route = async (x) => {
      const { items, headers } = page(x, await repositories.list(), '/v2/_catalog');
      sendJson(x, 200, { repositories: items }, headers);
    };
    const version: Route = (x) => sendJson(x, 200, {});
    // The repository's name has slashes of its own: what stands behind it decides.
    this.#routes = [
      [/^\/v2\/?$/, { GET: version, HEAD: version }],
      [/^\/v2\/_catalog$/, { GET: catalog, HEAD: catalog }],
      [/^\/v2\/(.+)\/tags\/list$/, { GET: tagsList, HEAD: tagsList }],
      [/^\/v2\/(.+)\/manifests\/([^/]+)$/, {
        GET: getManifest,
        HEAD: getManifest,
        PUT: (x, [name = '', reference = '']) => manifests.put(x, name, reference),
        DELETE: (x, [name = '', reference = '']) => manifests.remove(x, name, reference),
      }],
      [/^\/v2\/(.+)\/referrers\/([^/]+)$/, { GET: (x, [name = '', digest = '']) => manifests.referrers(x, name, digest) }],
      [/^\/v2\/(.+)\/blobs\/uploads\/?$/, { POST: (x, [name = '']) => uploads.start(x, name) }],
      [/^\/v2\/(.+)\/blobs\/uploads\/([^/]+)$/, {
        GET: (x, [name = '', id = '']) => uploads.status(x, name, id),
        PATCH: (x, [name = '', id = '']) => uploads.append(x, name, id),
        PUT: (x, [name = '', id = '']) => uploads.finish(x, name, id),
        DELETE: (x, [name = '', id = '']) => uploads.cancel(x, name, id),
      }],
      [/^\/v2\/(.+)\/blobs\/([^/]+)$/, { GET: getBlob, HEAD: getBlob, DELETE: (x, [, digest = '']) => blobs.remove(x, digest) }],
    ];
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    const method = request.method ?? 'GET';
    const target = request.url ?? '/';
    const [path, query] = splitTarget(target);
    const meter = { received: 0, sent: 0 };
    const exchange: Exchange = { request, response, method, query: new URLSearchParams(query), signal: gone.signal, meter };
    response.once('close', () => {
      gone.abort();
      this.#onRequest?.({ method, target, status: response.statusCode, range: request.headers.range, ...meter, complete: response.writableFinished });
    });
    // A client that leaves shows as an error where its bytes are waited for; here it only must not be unhandled.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    response.setHeader('Docker-Distribution-API-Version', 'registry/2.0');
    try {
      await this.#dispatch(exchange, path);
    } catch (error) {
      sendError(exchange, error);
    }
  }

  async close(): Promise<void> {
    await this.#uploads.close();
    await this.#layout.close();
  }

  async #dispatch(exchange: Exchange, path: string): Promise<void> {
    for (const [pattern, methods] of this.#routes) {
      const match = pattern.exec(path);
      if (!match) continue;
      const parts = match.slice(1).map(decode);
      if (parts[0] !== undefined && !isRepository(parts[0])) throw new ApiError(400, 'NAME_INVALID', 'not the name of a repository');
      const route = methods[exchange.method];
      if (!route) throw new ApiError(405, 'UNSUPPORTED', 'method is not supported here', { headers: { Allow: Object.keys(methods).join(', ') } });
      if (this.#readOnly && exchange.method !== 'GET' && exchange.method !== 'HEAD') throw new ApiError(405, 'UNSUPPORTED', 'this registry is read-only', { headers: { Allow: 'GET, HEAD' } });
      return route(exchange, parts);
    }
    throw new ApiError(404, 'UNSUPPORTED', 'no such endpoint');
  }
}

function splitTarget(target: string): [string, string] {
  // A client behind a proxy may send the absolute form.
  const local = target.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = local.indexOf('?');
  return mark < 0 ? [local, ''] : [local.slice(0, mark), local.slice(mark + 1)];
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ApiError(400, 'NAME_INVALID', 'path is not well encoded');
  }
}
