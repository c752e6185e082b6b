import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { PROGRAM } from './peers-cli.ts';
import { defer, must, scratch, serve, type Ran, type Scope } from './peers.ts';
import { makeCertificates } from './tls.ts';

/** Debian's docker-registry (distribution 2.8) on an ephemeral port of 127.0.0.1, with storage that is gone after the test. */
export interface Registry {
  /** `127.0.0.1:port` */
  readonly host: string;
  readonly user?: string;
  readonly password?: string;
  /** The private CA's certificate, when it speaks TLS. */
  readonly ca?: string;
  /** A docker config folder with this registry's credentials. */
  readonly dockerConfig?: string;
  /** Status, headers and body of a request. Paths begin with /v2/. */
  get(path: string, accept?: string): Promise<{ status: number; headers: Record<string, string | string[] | undefined>; body: Buffer }>;
  tags(repository: string): Promise<readonly string[]>;
  /** Upload sessions that nobody finished or cancelled. */
  uploads(repository: string): readonly string[];
  log(): string;
}

export interface RegistryOptions {
  readonly htpasswd?: boolean;
  readonly tls?: boolean;
}

const USER = 'tester';
const PASSWORD = 'p:ass word/\u00e4';

export async function startRegistry(t: Scope, options: RegistryOptions = {}): Promise<Registry> {
  const folder = scratch(t);
  const storage = join(folder, 'storage');
  mkdirSync(storage);
  const lines = [
    'version: 0.1', 'log:', '  level: info', 'storage:', '  filesystem:', `    rootdirectory: ${storage}`, '  delete:', '    enabled: true', 'http:', '  addr: 127.0.0.1:0', '  secret: of no account',
  ];
  const ca = options.tls ? makeCertificates(folder).caFile : undefined;
  if (ca) lines.push('  tls:', `    certificate: ${join(folder, 'server.crt')}`, `    key: ${join(folder, 'server.key')}`);
  if (options.htpasswd) {
    const line = await must('htpasswd', ['-nbB', '-C', '5', USER, PASSWORD]);
    writeFileSync(join(folder, 'htpasswd'), line.text.trim());
    lines.push('auth:', '  htpasswd:', '    realm: test', `    path: ${join(folder, 'htpasswd')}`);
  }
  writeFileSync(join(folder, 'config.yml'), `${lines.join('\n')}\n`);
  const service = await serve(t, 'docker-registry', ['serve', join(folder, 'config.yml')], /listening on (127\.0\.0\.1:\d+)/);
  const host = service.ready[1] ?? '';
  return {
    ...(options.htpasswd ? { user: USER, password: PASSWORD, dockerConfig: writeDockerConfig(join(folder, 'docker'), host) } : {}),
    ...(ca ? { ca } : {}),
    ...reach(t, host, ca, options.htpasswd ? `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}` : undefined),
    uploads(repository) {
      try {
        // A cancelled session leaves a folder with the state of its hash behind; one that is open has its start, too.
        const sessions = join(storage, 'docker/registry/v2/repositories', repository, '_uploads');
        return readdirSync(sessions).filter((session) => existsSync(join(sessions, session, 'startedat')));
      } catch {
        return [];
      }
    },
    log: service.log,
  };
}

/** `lazypull serve` over a fresh layout, seen as any other registry. */
export async function startOwnRegistry(t: Scope): Promise<Registry> {
  const folder = join(scratch(t), 'served');
  const service = await serve(t, process.execPath, [PROGRAM, 'serve', folder, '--listen', '127.0.0.1:0'], /listening on http:\/\/(127\.0\.0\.1:\d+)/);
  return { ...reach(t, service.ready[1] ?? '', undefined, undefined), uploads: () => [], log: service.log };
}

/** What a test asks a registry by itself. */
function reach(t: Scope, host: string, ca: string | undefined, authorization: string | undefined): Pick<Registry, 'host' | 'get' | 'tags'> {
  const agent = new Agent(ca ? { connect: { ca: readFileSync(ca) } } : {});
  defer(t, () => agent.close());
  const get: Registry['get'] = async (path, accept = '*/*') => {
    const answer = await request(`${ca ? 'https' : 'http'}://${host}${path}`, { dispatcher: agent, headers: { accept, ...(authorization ? { authorization } : {}) } });
    return { status: answer.statusCode, headers: answer.headers, body: Buffer.from(await answer.body.arrayBuffer()) };
  };
  return {
    host,
    get,
    async tags(repository) {
      const answer = await get(`/v2/${repository}/tags/list`);
      if (answer.status === 404) return [];
      return ((JSON.parse(answer.body.toString()) as { tags: string[] | null }).tags ?? []).sort();
    },
  };
}

function writeDockerConfig(folder: string, host: string): string {
  mkdirSync(folder);
  const auth = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
  return folder;
}

/** skopeo without policy files and without TLS to 127.0.0.1. */
export function skopeoCopy(source: string, target: string, ...flags: readonly string[]): Promise<Ran> {
  return must('skopeo', ['--insecure-policy', 'copy', '--src-tls-verify=false', '--dest-tls-verify=false', ...flags, source, target]);
}
