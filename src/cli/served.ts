import { printable } from '../core/errors.ts';
import { openLayout } from '../oci/layout.ts';
import { Repositories } from '../oci/server/repositories.ts';
import type { RequestRecord } from '../oci/server.ts';
import { formatSize } from './units.ts';

/** One line of the request log: `206 GET /v2/app/blobs/sha256:... bytes=0-99 100 B`. */
export function requestLine(record: RequestRecord): string {
  const { status, method, target, range, received, sent, complete } = record;
  return [
    String(status),
    method,
    printable(target),
    ...(range === undefined ? [] : [printable(range)]),
    ...(received > 0 ? [`received ${formatSize(received)}`] : []),
    formatSize(sent),
    ...(complete ? [] : ['(connection lost)']),
  ].join(' ');
}

/** Names of the images in a layout as its registry has them: `app:1.0`, sorted. */
export async function servedImages(folder: string): Promise<string[]> {
  const layout = await openLayout(folder, { create: true });
  try {
    const repositories = new Repositories(layout);
    const names: string[] = [];
    for (const repository of await repositories.list()) {
      for (const tag of (await repositories.tags(repository)) ?? []) names.push(`${repository}:${tag}`);
    }
    return names;
  } finally {
    await layout.close();
  }
}
