import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { exitCodeOf, readPid, supervise, type Ended, type SuperviseOptions } from '../../src/mount/run/supervise.ts';

describe('a program that is run with our streams', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'lazypull-supervise-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Runs a script of sh; `then` once it has written the file `ready`. */
  const run = async (script: string, options: Partial<SuperviseOptions> = {}, then?: (send: (signal: NodeJS.Signals) => void, pid: number) => unknown): Promise<{ ended: Ended; said: string }> => {
    const ready = join(folder, 'ready');
    const said = join(folder, 'said');
    rmSync(ready, { force: true });
    writeFileSync(said, '');
    let listener: ((signal: NodeJS.Signals) => void) | undefined;
    let pid = 0;
    const running = supervise('/bin/sh', ['-c', script.replaceAll('READY', `echo yes > '${ready}'`).replaceAll('SAY', `>> '${said}'`)], {
      env: { PATH: '/usr/bin:/bin' },
      target: () => undefined,
      takeSignals: (next) => {
        listener = next;
        return () => (listener = undefined);
      },
      stopSignal: 15,
      kill: () => process.kill(pid, 'SIGKILL'),
      onStart: (started) => (pid = started),
      ...options,
    });
    if (then) {
      for (;;) {
        if (readText(ready) === 'yes\n') break;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await then((signal) => listener?.(signal), pid);
    }
    const ended = await running;
    assert.equal(listener, undefined, 'signals are given back');
    return { ended, said: readText(said) };
  };
  const LOOP = 'READY; while :; do sleep 0.02; done';

  it('ends as it ends', async () => {
    assert.equal(exitCodeOf((await run('exit 7')).ended), 7);
    assert.equal(exitCodeOf((await run('kill -9 $$')).ended), 137);
    await assert.rejects(supervise(join(folder, 'none'), [], { env: {}, target: () => undefined, stopSignal: 15, kill: () => undefined, onStart: () => undefined }), { code: 'IO' });
  });

  it('gets every signal once', async () => {
    const { ended, said } = await run(`trap 'echo usr1 SAY' USR1; trap 'echo int SAY' INT; trap 'echo term SAY; exit 9' TERM; ${LOOP}`, {}, async (send) => {
      for (const [signal, mark] of [['SIGUSR1', 'usr1'], ['SIGINT', 'usr1\nint']] as const) {
        send(signal);
        while (readText(join(folder, 'said')).trim() !== mark) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      send('SIGTERM');
    });
    assert.deepEqual([exitCodeOf(ended), said], [9, 'usr1\nint\nterm\n']);
  });

  it('is ended by the third Ctrl-C in a row, whatever it makes of them', async () => {
    const { ended } = await run(`trap '' INT TERM; ${LOOP}`, {}, (send) => {
      for (let i = 0; i < 3; i++) send('SIGINT');
    });
    assert.equal(exitCodeOf(ended), 137);
  });

  it('is asked to stop in its own way', async () => {
    const stop = new AbortController();
    const { ended, said } = await run(`trap 'echo quit SAY; exit 0' QUIT; ${LOOP}`, { stopSignal: 3, signal: stop.signal }, () => stop.abort());
    assert.deepEqual([exitCodeOf(ended), said], [0, 'quit\n']);
  });

  it('is ended when nobody waits for it any more', async () => {
    const gone = new AbortController();
    const { ended } = await run(`trap 'echo asked SAY' INT TERM HUP QUIT; ${LOOP}`, { abandoned: gone.signal }, () => gone.abort());
    assert.equal(exitCodeOf(ended), 137);
  });

  it('is found by the number in its file', () => {
    const path = join(folder, 'pid');
    assert.equal(readPid(path), undefined);
    for (const [text, pid] of [['', undefined], ['x', undefined], ['0', undefined], ['1', undefined], ['123\n', 123], ['456', 456]] as const) {
      writeFileSync(path, text);
      assert.equal(readPid(path), pid);
    }
  });
});

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
