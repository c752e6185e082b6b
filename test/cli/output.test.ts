import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import type { Io, OutputStream } from '../../src/cli/io.ts';
import { Output } from '../../src/cli/output.ts';

function failing(code: string): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error(`write ${code}`), { code })) });
}

function io(stdout: OutputStream, more: Partial<Io> = {}): Io {
  return { stdin: [] as never, stdout, stderr: new Writable({ write: (_c, _e, done) => done() }), env: {}, program: 'lazypull', signal: new AbortController().signal, ...more };
}

function kept(extra: object = {}): { stream: OutputStream; text: () => string } {
  const parts: string[] = [];
  const stream = Object.assign(new Writable({ write: (chunk: Buffer, _e, done) => (parts.push(chunk.toString()), done()) }), extra);
  return { stream, text: () => parts.join('') };
}

describe('output', () => {
  it('takes a reader that has gone away for the end, not for an error', async () => {
    const out = new Output(io(failing('EPIPE')), {});
    await out.line('lost');
    assert.equal(out.readerGone, true);
    await out.line('not even tried');
  });

  it('reports a result that cannot be written', async () => {
    await assert.rejects(new Output(io(failing('ENOSPC')), {}).line('x'), { code: 'IO', message: /standard output.*ENOSPC/ });
  });

  it('waits for a slow reader before it takes its bytes back', async () => {
    let seen = '';
    const slow = new Writable({ highWaterMark: 1, write: (chunk: Buffer, _e, done) => void setTimeout(() => ((seen += chunk.toString()), done()), 5) });
    const out = new Output(io(slow), {});
    const lent = Buffer.from('a');
    await out.write(lent);
    lent.fill('b');
    await out.write(lent);
    assert.equal(seen, 'ab');
  });

  it('silences what --quiet and --json ask it to', () => {
    const said = (flags: object): string => {
      const { stream, text } = kept();
      const out = new Output(io(kept().stream, { stderr: stream }), flags);
      out.note('note');
      out.warn('warning');
      out.say('error');
      return text();
    };
    assert.equal(said({}), 'note\nlazypull: warning: warning\nerror\n');
    assert.equal(said({ json: true }), 'lazypull: warning: warning\nerror\n');
    assert.equal(said({ quiet: true }), 'error\n');
  });

  it('shows progress only where a line can be redrawn', () => {
    const progress = (stderr: object, flags: object = {}, env: Record<string, string> = {}): boolean => new Output(io(kept().stream, { stderr: kept(stderr).stream, env }), flags).progress;
    assert.equal(progress({ isTTY: true, columns: 80 }), true);
    assert.equal(progress({ isTTY: true }), true);
    assert.equal(progress({}), false);
    assert.equal(progress({ isTTY: true, columns: 0 }), false);
    assert.equal(progress({ isTTY: true }, { progress: false }), false);
    assert.equal(progress({ isTTY: true }, { quiet: true }), false);
    assert.equal(progress({ isTTY: true }, {}, { TERM: 'dumb' }), false);
  });
});
