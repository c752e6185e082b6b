import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { LazypullError } from '../../../src/core/errors.ts';
import { askControl, serveControl } from '../../../src/mount/host/control.ts';
import { ERRNO, NativeError } from '../../../src/mount/native.ts';

const folder = mkdtempSync(join(tmpdir(), 'lazypull-control-'));
after(() => rmSync(folder, { recursive: true }));

describe('control socket', () => {
  it('answers, and hands errors over as what they are', async () => {
    const path = join(folder, 'a');
    // A socket that a killed daemon has left is no obstacle.
    writeFileSync(path, '');
    const server = await serveControl(path, async (request) => {
      if (request.verb === 'prefetch') return { asked: request.paths };
      if (request.verb === 'restart') throw new LazypullError('NETWORK', 'not now');
      if (request.verb === 'stop') throw new NativeError(ERRNO.EBUSY, 'umount', '/mnt');
      return undefined;
    });
    assert.equal(await askControl(path, { verb: 'status' }, 5000), null);
    assert.deepEqual(await askControl(path, { verb: 'prefetch', paths: ['/etc/*'], all: false }, 5000), { asked: ['/etc/*'] });
    await assert.rejects(askControl(path, { verb: 'restart' }, 5000), { code: 'NETWORK', message: 'not now', errno: undefined });
    await assert.rejects(askControl(path, { verb: 'stop', how: 'clean' }, 5000), { code: 'IO', errno: 'EBUSY' });
    await assert.rejects(askControl(path, { verb: 'dance' } as never, 5000), { code: 'USAGE' });
    await server.close();
    assert.equal(existsSync(path), false);
    await assert.rejects(askControl(path, { verb: 'status' }, 5000), { code: 'IO' });
  });

  it('is not impressed by strangers', async () => {
    const path = join(folder, 'b');
    const server = await serveControl(path, async () => 'fine');
    for (const junk of ['\n\n', '{"verb":\n', 'GET / HTTP/1.1\r\n\r\n', `${'['.repeat(100_000)}\n`]) {
      const socket = connect(path);
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.resume().end(junk);
      await closed;
    }
    assert.equal(await askControl(path, { verb: 'status' }, 5000), 'fine');
    await server.close();
  });

  it('gives its last answer before it closes, and does not wait for ever', async () => {
    const path = join(folder, 'c');
    let go = (): void => undefined;
    let asked = (): void => undefined;
    const wasAsked = new Promise<void>((resolve) => (asked = resolve));
    const server = await serveControl(path, async (request) => {
      if (request.verb === 'status') return new Promise(() => undefined);
      asked();
      await new Promise<void>((resolve) => (go = resolve));
      return 'done';
    });
    const forever = askControl(path, { verb: 'status' }, 5000);
    const last = askControl(path, { verb: 'stop', how: 'clean' }, 5000);
    await wasAsked;
    const closed = server.close();
    go();
    assert.equal(await last, 'done');
    await assert.rejects(forever, { code: 'IO' });
    await closed;
  });
});
