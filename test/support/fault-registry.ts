import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serveLayout } from '../../src/oci/server.ts';
import { FaultAuth } from './fault-auth.ts';
import { forward, type LogEntry } from './fault-proxy.ts';
import { FaultRules, refuse, type FaultRule } from './fault-rules.ts';
import { makeCertificates, type Certificates } from './tls.ts';

export type { LogEntry } from './fault-proxy.ts';
export type { Fault, FaultRule } from './fault-rules.ts';

/** Switches for behaviour that lasts. All may be changed while the registry runs; each request sees them as they are. */
export interface Faults {
  auth: 'none' | 'basic' | 'bearer';
  user: string;
  password: string;
  /** Whether the token service gives pull tokens to everybody. */
  anonymousPull: boolean;
  /** How long a token is good, seconds; what is announced may differ (`tokenExpiresIn`). */
  tokenLifetime: number;
  tokenExpiresIn: number | undefined;
  /** For how many requests a token is good: expiry without a clock. */
  tokenUses: number | undefined;
  tokenField: 'token' | 'access_token';
  /** Where clients are sent for tokens; the registry's own `/token` when undefined. */
  tokenRealm: string | undefined;
  /** `refused`: POST to the token service is 404, as with services that know GET only. */
  tokenPost: 'taken' | 'refused';
  /** Taken as `refresh_token`. */
  identityToken: string | undefined;
  /** `off`: 404 and no OCI-Subject, as docker-registry. `silent`: works, but without OCI-Subject. `wrong-type`: lists the
   * config's type and no annotations. `no-filter`: ignores artifactType. */
  referrers: 'on' | 'off' | 'silent' | 'wrong-type' | 'no-filter';
  /** Blobs are fetched from a second origin, which refuses requests that carry Authorization. */
  redirectBlobs: boolean;
  redirectStatus: 301 | 302 | 303 | 307 | 308;
  /** How often one redirect target can be used: expiry without a clock. */
  redirectUses: number | undefined;
  /** `ignored`: 200 and the whole. `wrong`: Content-Range names other bytes. `wrong-total`: it names another size. */
  ranges: 'on' | 'ignored' | 'wrong' | 'wrong-total';
  mount: 'on' | 'refused' | 'forbidden';
  /** A blob is there only for the repository that it was pushed to or mounted into while this registry ran. */
  isolated: boolean;
  /** `unchecked`: Content-Range of chunks is ignored, as by docker-registry 2.8.2. */
  patch: 'checked' | 'unchecked';
  /** Smallest chunk but the last, bytes (OCI-Chunk-Min-Length). */
  minChunk: number | undefined;
  /** How many requests an upload session lasts: expiry without a clock. */
  sessionUses: number | undefined;
  /** `absolute`: URLs. `stateful`: with an opaque query that changes each time and has to come back as it was. */
  uploadLocation: 'relative' | 'absolute' | 'stateful';
  /** Manifests are 404 for clients whose Accept does not list their type, as with docker-registry 2.8.2. */
  strictAccept: boolean;
  immutableTags: boolean;
  /** Whether Docker-Content-Digest is sent. */
  digestHeader: boolean;
  /** `refused`: HEAD of a manifest is 405. */
  headManifest: 'on' | 'refused';
  /** What Content-Type of manifests has behind the type. */
  typeSuffix: string;
  /** Most tags in one answer. */
  tagsPage: number | undefined;
  /** Each request waits so long, ms. */
  latency: number;
}

export interface FaultRegistryOptions extends Partial<Faults> {
  /** Served as it is, and not removed; a fresh folder otherwise. */
  readonly layoutDir?: string;
  /** HTTPS with a certificate of a private authority; with `client`, clients need one of it, too. */
  readonly tls?: boolean | 'client';
}

export interface FaultRegistry {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly url: string;
  /** `127.0.0.1:port` of the origin that `redirectBlobs` leads to. */
  readonly otherHost: string;
  readonly layoutDir: string;
  readonly certificates: Certificates | undefined;
  /** Requests to all origins in the order of their arrival, counted while they run. */
  readonly log: LogEntry[];
  readonly faults: Faults;
  /** Lets single requests fail. */
  inject(rule: FaultRule): void;
  /** Forgets the injected rules. */
  heal(): void;
  /** Entries of the log that fit. */
  requests(method: string | undefined, path?: RegExp): LogEntry[];
  /** Bytes of the bodies of answers that fit: proof of laziness. */
  sent(path?: RegExp): number;
  tokensIssued(): number;
  close(): Promise<void>;
}

/** A real registry (`serveLayout`) behind a door at which everything can go wrong. */
export async function startFaultRegistry(options: FaultRegistryOptions = {}): Promise<FaultRegistry> {
  const { layoutDir, tls, ...given } = options;
  const scratch = mkdtempSync(join(tmpdir(), 'lazypull-faults-'));
  const folder = layoutDir ?? join(scratch, 'layout');
  const certificates = tls ? makeCertificates(scratch) : undefined;
  const inner = await serveLayout(folder);
  const faults: Faults = { ...healthy(), ...given };
  const auth = new FaultAuth(faults);
  const rules = new FaultRules();
  const log: LogEntry[] = [];
  const links = new Map<string, { path: string; uses: number }>();
  const scheme = certificates ? 'https' : 'http';
  let url = '';
  let otherUrl = '';

  const begin = (request: IncomingMessage, response: ServerResponse, origin: LogEntry['origin']): LogEntry => {
    const entry: LogEntry = { origin, method: request.method ?? '', target: request.url ?? '', status: 0, headers: request.headers, received: 0, sent: 0, complete: false };
    log.push(entry);
    response.once('close', () => {
      entry.status = response.statusCode;
      entry.complete = response.writableFinished;
    });
    return entry;
  };
  const context = { inner: new URL(inner.url), faults, origin: () => url, link: makeLink };

  function makeLink(path: string): string {
    const key = randomBytes(8).toString('hex');
    links.set(key, { path, uses: 0 });
    return `${otherUrl}/cdn/${key}?X-Signature=${randomBytes(8).toString('hex')}`;
  }

  const front = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const target = request.url ?? '/';
    const isToken = target.startsWith('/token');
    const entry = begin(request, response, isToken ? 'token' : 'registry');
    const struck = rules.strike(entry.method, target);
    if (isToken && !struck.some(({ kind }) => kind === 'status' || kind === 'answer' || kind === 'reset')) return auth.token(request, response);
    if (!isToken && !auth.admit(request, response, url)) return;
    await forward(request, response, entry, struck, context);
  };
  const other = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const entry = begin(request, response, 'other');
    if (request.headers.authorization !== undefined) return refuse(response, 400, 'INVALID_ARGUMENT');
    const link = links.get(/^\/cdn\/([0-9a-f]+)\?/.exec(entry.target)?.[1] ?? '');
    if (!link || link.uses++ >= (faults.redirectUses ?? Number.POSITIVE_INFINITY)) return refuse(response, 403, 'EXPIRED');
    request.url = link.path;
    await forward(request, response, entry, rules.strike(entry.method, entry.target), { ...context, link: undefined });
  };
  const secure = certificates && { cert: certificates.cert, key: certificates.key, ...(tls === 'client' && { ca: certificates.ca, requestCert: true, rejectUnauthorized: true }) };
  const start = async (handle: typeof front): Promise<[Server, string]> => {
    const listener = (request: IncomingMessage, response: ServerResponse): void => {
      handle(request, response).catch(() => response.destroy());
    };
    const server = secure ? createTlsServer(secure, listener) : createServer(listener);
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return [server, `127.0.0.1:${(server.address() as AddressInfo).port}`];
  };
  const [frontServer, host] = await start(front);
  const [otherServer, otherHost] = await start(other);
  url = `${scheme}://${host}`;
  otherUrl = `${scheme}://${otherHost}`;

  const requests: FaultRegistry['requests'] = (method, path) => log.filter((entry) => (method === undefined || entry.method === method) && (!path || path.test(entry.target)));
  return {
    host,
    url,
    otherHost,
    layoutDir: folder,
    certificates,
    log,
    faults,
    inject: (rule) => rules.add(rule),
    heal: () => rules.clear(),
    requests,
    sent: (path) => requests(undefined, path).reduce((sum, entry) => sum + entry.sent, 0),
    tokensIssued: () => auth.issued,
    async close() {
      await Promise.all([frontServer, otherServer].map((server) => new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      })));
      await inner.close();
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

function healthy(): Faults {
  return {
    auth: 'none',
    user: 'user',
    password: 'pass:word',
    anonymousPull: true,
    tokenLifetime: 300,
    tokenExpiresIn: undefined,
    tokenUses: undefined,
    tokenField: 'token',
    tokenRealm: undefined,
    tokenPost: 'taken',
    identityToken: undefined,
    referrers: 'on',
    redirectBlobs: false,
    redirectStatus: 307,
    redirectUses: undefined,
    ranges: 'on',
    mount: 'on',
    isolated: false,
    patch: 'checked',
    minChunk: undefined,
    sessionUses: undefined,
    uploadLocation: 'relative',
    strictAccept: false,
    immutableTags: false,
    digestHeader: true,
    headManifest: 'on',
    typeSuffix: '',
    tagsPage: undefined,
    latency: 0,
  };
}
