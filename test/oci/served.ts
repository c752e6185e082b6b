import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { Descriptor } from '../../src/core/types.ts';
import { encodeDocument } from '../../src/oci/documents.ts';
import { openLayout } from '../../src/oci/layout.ts';
import { OCI } from '../../src/oci/media-types.ts';
import { serveLayout, type RequestRecord, type ServedLayout, type ServeOptions } from '../../src/oci/server.ts';
import { call, type Answer } from '../support/http-call.ts';
import { pushImage, type TestImage } from './store-contract.ts';

export const scratch = mkdtempSync(join(tmpdir(), 'lazypull-server-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;

export interface Served extends ServedLayout {
  readonly folder: string;
  readonly records: RequestRecord[];
}

/** Serves a fresh layout with the base name `base`, holding one image named `app`, for the time of a test. */
export async function served(body: (server: Served, image: TestImage) => Promise<void>, options: ServeOptions = {}): Promise<void> {
  const folder = join(scratch, String((count += 1)), 'base');
  const store = await openLayout(folder, { create: true });
  const image = await pushImage(store, 1);
  await store.tag(image.manifest, 'app');
  await store.close();
  const records: RequestRecord[] = [];
  const server = await serveLayout(folder, { ...options, onRequest: (record) => records.push(record) });
  try {
    await body({ ...server, folder, records }, image);
    assert.equal(readdirSync(join(folder, 'blobs')).filter((name) => name.startsWith('.')).length, 0, 'temporary files are left');
  } finally {
    await server.close();
  }
}

export function put(server: ServedLayout, name: string, reference: string, document: object | string, type: string = OCI.manifest): Promise<Answer> {
  const body = typeof document === 'string' ? document : encodeDocument(document);
  return call('PUT', `${server.url}/v2/${name}/manifests/${reference}`, { headers: { 'Content-Type': type }, body });
}

/** What the entries of `index.json` are called. */
export function names(folder: string): (string | undefined)[] {
  const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  return index.manifests.map((entry) => entry.annotations?.['org.opencontainers.image.ref.name']);
}

/** The image's manifest, or another one of the same parts. */
export function imageOf({ config, layers }: TestImage, extra: object = {}): object {
  return { schemaVersion: 2, mediaType: OCI.manifest, config, layers, ...extra };
}
