import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { createRegistryHandler } from '../../src/index.ts';
import { built } from '../support/root.ts';
import { tempFolder, tinyLayout } from './tiny.ts';

const BIN = join(built, 'bin', 'lazypull.js');

interface Child {
  readonly process: ChildProcessWithoutNullStreams;
  /** Exit code, or the signal that ended it, with everything it printed. */
  readonly ended: Promise<{ code: number | NodeJS.Signals | null; stdout: string; stderr: string }>;
}

function start(t: TestContext, ...argv: string[]): Child {
  const child = spawn(process.execPath, [BIN, ...argv]);
  t.after(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  return { process: child, ended: once(child, 'close').then(([code, signal]) => ({ code: (code ?? signal) as number | NodeJS.Signals | null, stdout, stderr })) };
}

/** A registry over a layout whose answer to one kind of request never comes; `stuck` resolves when it is asked for. */
async function stallingRegistry(t: TestContext, layout: string, stalls: RegExp): Promise<{ host: string; stuck: Promise<void> }> {
  const handler = await createRegistryHandler(layout);
  let tell: () => void = () => undefined;
  const stuck = new Promise<void>((resolve) => (tell = resolve));
  const server = createServer((incoming, response) => {
    if (stalls.test(incoming.url ?? '')) tell();
    else void handler.handle(incoming, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await handler.close();
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, stuck };
}

describe('the process', () => {
  it('runs, prints and exits', () => {
    const version = spawnSync(process.execPath, [BIN, '--version'], { encoding: 'utf8' });
    assert.deepEqual([version.status, version.stderr], [0, '']);
    const usage = spawnSync(process.execPath, [BIN, 'ls'], { encoding: 'utf8' });
    assert.deepEqual([usage.status, usage.stdout, usage.stderr], [2, '', "lazypull: missing required argument 'image'\n"]);
  });

  it('does not mind a reader that leaves', async (t) => {
    const layout = await tinyLayout(t);
    assert.equal(spawnSync(process.execPath, [BIN, 'convert', `oci:${layout}:app`, `oci:${layout}:e`]).status, 0);
    for (const command of [['cat', `oci:${layout}:e`, '/usr/share/book/pages.txt'], ['ls', '-R', `oci:${layout}:e`]]) {
      const child = start(t, ...command);
      child.process.stdout.destroy();
      const { code, stderr } = await child.ended;
      assert.deepEqual([code, stderr], [0, ''], command[0]);
    }
  });

  for (const [signal, exit] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]] as const) {
    it(`cleans up after ${signal} and exits with ${exit}`, async (t) => {
      const target = join(await tempFolder(t), 'target');
      // With one layer at a time the smallest comes last: the others are stored already.
      const { host, stuck } = await stallingRegistry(t, await tinyLayout(t), /blobs\/sha256:8564620f1ca9/);
      const child = start(t, 'convert', `docker://${host}/layout:app`, `oci:${target}:x`, '--plain-http', '--jobs', '1');
      await stuck;
      child.process.kill(signal);
      const { code, stdout, stderr } = await child.ended;
      assert.deepEqual([code, stdout, stderr], [exit, '', 'lazypull: cancelled\n']);
      const left = (await readdir(target, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name);
      assert.ok(left.length > 2, 'it was in the middle of its work');
      assert.deepEqual(left.filter((name) => name !== 'oci-layout' && name !== 'index.json' && !/^[0-9a-f]{64}$/.test(name)), [], 'no temporary file is left');
      assert.equal(spawnSync(process.execPath, [BIN, 'inspect', `oci:${target}:x`]).status, 3, 'nothing is tagged');
    });
  }

  it('stops serving with 0 on the first signal', async (t) => {
    const child = start(t, 'serve', await tinyLayout(t), '--listen', '127.0.0.1:0');
    const [text] = (await once(child.process.stdout, 'data')) as [Buffer];
    assert.match(text.toString(), /^listening on http:\/\/127\.0\.0\.1:\d+\n {2}127\.0\.0\.1:\d+\/layout:app\n/);
    child.process.kill('SIGINT');
    assert.deepEqual(await child.ended.then(({ code, stderr }) => [code, stderr]), [0, '']);
  });

  it('ends at once on the second signal', async (t) => {
    const child = start(t, 'serve', await tinyLayout(t), '--listen', '127.0.0.1:0');
    const [text] = (await once(child.process.stdout, 'data')) as [Buffer];
    const port = Number(/:(\d+)\n/.exec(text.toString())?.[1]);
    const idle = connect(port, '127.0.0.1');
    await once(idle, 'connect');
    // An upload in the middle of its body keeps the server from closing; the idle connection tells when it began to.
    const upload = request({ port, host: '127.0.0.1', path: '/v2/layout/blobs/uploads/?digest=sha256:' + '0'.repeat(64), method: 'POST', headers: { 'content-length': 10, expect: '100-continue' } });
    upload.on('error', () => undefined);
    upload.flushHeaders();
    await once(upload, 'continue');
    idle.write('GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n');
    await once(idle, 'data');
    child.process.kill('SIGINT');
    await once(idle, 'close');
    child.process.kill('SIGINT');
    assert.equal((await child.ended).code, 130);
    upload.destroy();
  });
});
