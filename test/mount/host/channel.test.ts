import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Channel } from '../../../src/mount/host/channel.ts';

const folder = mkdtempSync(join(tmpdir(), 'lazypull-channel-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;

async function pair(): Promise<[Socket, Socket]> {
  const path = join(folder, `${(count += 1)}`);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const far = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const near = connect(path);
  const both: [Socket, Socket] = [near, await far];
  server.close();
  return both;
}

describe('channel', () => {
  it('keeps the order of messages, and cuts none at the border of a packet', async () => {
    const [near, far] = await pair();
    const a = new Channel<object, { n: number; text: string }>(near);
    const sent = Array.from({ length: 50 }, (_, n) => ({ n, text: 'ü\n'.repeat(n * 997) }));
    const bytes = Buffer.from(sent.map((message) => `${JSON.stringify(message)}\n`).join(''));
    for (let at = 0; at < bytes.length; at += 1009) far.write(bytes.subarray(at, at + 1009));
    for (const message of sent) assert.deepEqual(await a.receive(), message);
    far.end();
    assert.equal(await a.receive(), undefined);
    await a.ended;
    assert.equal(a.open, false);
  });

  it('delivers what was sent before the other end closed', async () => {
    const [near, far] = await pair();
    const a = new Channel<number, number>(near);
    const b = new Channel<number, number>(far);
    a.send(1);
    a.send(2);
    await a.close();
    assert.equal(await b.receive(), 1);
    assert.equal(await b.receive(), 2);
    assert.equal(await b.receive(), undefined);
    b.send(3);
  });

  it('refuses what is no message, and a line without end', async () => {
    const [near, far] = await pair();
    const a = new Channel<number, number>(near);
    far.write('{"half":\n');
    await assert.rejects(async () => a.receive(), { name: 'LazypullError', code: 'INTERNAL' });
    await assert.rejects(async () => a.receive(), { code: 'INTERNAL' });
    const [near2, far2] = await pair();
    const b = new Channel<number, number>(near2);
    far2.on('error', () => undefined);
    const flood = (): void => {
      if (!far2.destroyed) far2.write('x'.repeat(1 << 20), flood);
    };
    flood();
    await assert.rejects(async () => b.receive(), { code: 'LIMIT' });
    far2.destroy();
  });
});
