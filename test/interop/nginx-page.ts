import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { scratch, type Scope } from '../support/peers.ts';
import type { MountScene } from './mounts.ts';
import { eventually, leftovers } from './run-trees.ts';

/** `lazypull run` of the nginx image: it serves a page on this machine's network, ends when it is told to, and leaves nothing. */
export async function servesPage(t: Scope, scene: MountScene, ref: string, flags: readonly string[]): Promise<void> {
  const port = await freePort();
  const folder = scratch(t);
  const site = join(folder, 'site');
  mkdirSync(site);
  writeFileSync(join(site, 'index.html'), 'a page\n');
  writeFileSync(join(folder, 'nginx.conf'), `events {}\nhttp { access_log off; server { listen 127.0.0.1:${port}; root /site; } }\n`);
  let page = '';
  const ran = await scene.run(['run', '--cache-dir', scene.cache, ...flags, '-v', `${site}:/site:ro`, '-v', `${folder}/nginx.conf:/etc/nginx/nginx.conf:ro`, ref, '--', 'nginx', '-g', 'daemon off;'], {
    env: { TMPDIR: folder },
    started: (child) => void fetchPage(port).then((text) => {
      page = text;
      child.kill('SIGTERM');
    }),
  });
  assert.deepEqual([ran.code, page], [0, 'a page\n'], ran.stderr);
  await eventually(() => leftovers(folder));
  await scene.assertNothingLeft();
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Asks until somebody answers. */
async function fetchPage(port: number): Promise<string> {
  for (let tries = 0; tries < 300; tries++) {
    try {
      return await (await fetch(`http://127.0.0.1:${port}/`)).text();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  return 'no answer';
}
