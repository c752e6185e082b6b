import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { lazypull } from '../support/peers-cli.ts';
import { must, scratch, serve, type Scope } from '../support/peers.ts';
import { built } from '../support/root.ts';

/** How an image is made lazy; `index` leaves it as it is and adds a mount index. */
export const LAZY = ['index', 'estargz', 'soci', 'nydus'] as const;
export type Lazy = (typeof LAZY)[number];

const LONG = { timeout: 900_000 };

/** The images of a layout in every lazy form: made when they are needed, each form in a layout of its own. LAZYPULL_BENCH_KEEP names a folder that keeps them for the next time. */
export class BenchImages {
  readonly #scope: Scope;
  readonly #source: string;
  readonly #folder: string;
  readonly #others = new Map<string, () => Promise<string>>();
  readonly #registries = new Map<string, Promise<string>>();

  constructor(t: Scope, layout: string) {
    this.#scope = t;
    this.#source = layout;
    this.#folder = process.env['LAZYPULL_BENCH_KEEP'] ?? scratch(t);
  }

  has(tag: string): boolean {
    return this.#others.has(tag) || namesOf(this.#source).has(tag);
  }

  /** One more image, in a layout that is made when it is needed. */
  add(tag: string, layout: () => Promise<string>): void {
    this.#others.set(tag, layout);
  }

  /** `oci:` reference of an image in a lazy form. */
  async local(tag: string, lazy: Lazy): Promise<string> {
    return `oci:${await this.#make(tag, lazy)}:${tag}`;
  }

  /** Reference of an image in a registry that takes so long (ms) to answer. */
  async remote(tag: string, lazy: Lazy, delay: number): Promise<string> {
    const layout = await this.#make(tag, lazy);
    const key = `${layout} ${delay}`;
    let registry = this.#registries.get(key);
    if (!registry) {
      registry = serve(this.#scope, process.execPath, [join(built, 'test', 'bench', 'late-registry.js'), layout, `${delay}`], /listening on (127\.0\.0\.1:\d+)/).then(({ ready }) => ready[1] as string);
      this.#registries.set(key, registry);
    }
    return `${await registry}/${basename(layout)}:${tag}`;
  }

  async #make(tag: string, lazy: Lazy): Promise<string> {
    const target = join(this.#folder, `${tag}-${lazy}`);
    if (existsSync(target)) return target;
    const draft = join(this.#folder, 'draft', `${tag}-${lazy}`);
    rmSync(draft, { recursive: true, force: true });
    const source = `oci:${(await this.#others.get(tag)?.()) ?? this.#source}:${tag}`;
    if (lazy === 'index') {
      await lazypull(['copy', source, `oci:${draft}:${tag}`], LONG);
      await lazypull(['index', `oci:${draft}:${tag}`, '--as', 'erofs', '--platform', 'linux/amd64'], LONG);
    } else {
      await lazypull(['convert', source, `oci:${draft}:${tag}`, '--format', lazy, '--platform', 'linux/amd64'], LONG);
    }
    renameSync(draft, target);
    return target;
  }
}

function namesOf(layout: string): ReadonlyMap<string, string> {
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: { digest: string; annotations?: Record<string, string> }[] };
  return new Map(manifests.map(({ digest, annotations }) => [annotations?.['org.opencontainers.image.ref.name'] ?? '', digest]));
}

function manifestOf(layout: string, tag: string): { readonly layers: readonly { readonly digest: string; readonly size: number }[] } {
  const digest = namesOf(layout).get(tag) ?? '';
  return JSON.parse(readFileSync(join(layout, 'blobs', digest.replace(':', '/')), 'utf8')) as ReturnType<typeof manifestOf>;
}

interface OneFile {
  readonly layout: string;
  readonly tag: string;
  /** The file itself, `big.bin` in the image. */
  readonly file: string;
}

/** An image with nothing but one large file of noise, in a layer of plain tar. */
export async function noiseImage(t: Scope, bytes: number): Promise<OneFile> {
  return oneFile(t, 'noise', 'openssl enc -aes-128-ctr -nosalt -pbkdf2 -pass pass:bench -in /dev/zero 2> /dev/null | head -c "$1" > "$2"', [`${bytes}`]);
}

/** An image with nothing but one large file, in a layer of tar and gzip: the first bytes of the largest layer's tar of another image. */
export async function largeImage(t: Scope, source: string, tag: string, bytes: number): Promise<OneFile> {
  const { layers } = manifestOf(source, tag);
  const [largest] = [...layers].sort((a, b) => b.size - a.size);
  if (!largest) throw new Error(`${tag} has no layers`);
  return oneFile(t, 'large', 'gzip -dcq < "$3" | head -c "$1" > "$2"', [`${bytes}`, join(source, 'blobs', largest.digest.replace(':', '/'))], 'gzip');
}

async function oneFile(t: Scope, tag: string, script: string, [bytes = '', ...more]: readonly string[], packed?: 'gzip'): Promise<OneFile> {
  const folder = scratch(t);
  const file = join(folder, 'files', 'big.bin');
  const layout = join(folder, tag);
  const blobs = join(layout, 'blobs', 'sha256');
  for (const path of [join(folder, 'files'), blobs]) mkdirSync(path, { recursive: true });
  await must('bash', ['-c', script, 'bash', bytes, file, ...more], LONG);
  const tar = join(folder, 'layer.tar');
  const layer = packed ? `${tar}.gz` : tar;
  await must('tar', ['-C', join(folder, 'files'), '--owner=0', '--group=0', '-cf', tar, '.'], LONG);
  const diffId = await sha256(tar);
  if (packed) await must('bash', ['-c', 'gzip -6n < "$1" > "$2"', 'bash', tar, layer], LONG);
  const digest = await sha256(layer);
  const { size } = statSync(layer);
  renameSync(layer, join(blobs, digest));
  rmSync(tar, { force: true });
  const put = (mediaType: string, document: object): { mediaType: string; digest: string; size: number } => {
    const text = JSON.stringify(document);
    const name = createHash('sha256').update(text).digest('hex');
    writeFileSync(join(blobs, name), text);
    return { mediaType, digest: `sha256:${name}`, size: text.length };
  };
  const config = put('application/vnd.oci.image.config.v1+json', { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] } });
  const layers = [{ mediaType: `application/vnd.oci.image.layer.v1.tar${packed ? '+gzip' : ''}`, digest: `sha256:${digest}`, size }];
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = put(mediaType, { schemaVersion: 2, mediaType, config, layers });
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, platform: { os: 'linux', architecture: 'amd64' }, annotations }] }));
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return { layout, tag, file };
}

async function sha256(file: string): Promise<string> {
  return (await must('sha256sum', [file], LONG)).text.slice(0, 64);
}
