import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { Pipe } from '../../src/core/pipe.ts';
import { ByteReader } from '../../src/core/stream.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  let done = false;
  promise.then(() => (done = true), () => (done = true));
  // Everything that can happen without the outside world has happened by then.
  await new Promise((resolve) => setImmediate(resolve));
  return done;
};

describe('pipe', () => {
  it('gives out what is written, without a copy, and lends it until the reader comes back', async () => {
    const pipe = new Pipe();
    const reader = pipe[Symbol.asyncIterator]();
    const piece = bytes(1, 2, 3);
    const write = pipe.write(piece);
    assert.equal(await settled(write), false);
    const first = await reader.next();
    assert.equal(first.value, piece);
    assert.equal(await settled(write), false);
    const second = reader.next();
    assert.equal(await settled(write), true);
    assert.equal(await settled(second), false);
    const next = pipe.write(bytes(4));
    assert.deepEqual((await second).value, bytes(4));
    pipe.end();
    assert.equal((await reader.next()).done, true);
    await next;
    assert.equal((await reader.next()).done, true);
  });

  it('carries any bytes through, however writer and reader take turns', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 20 }), fc.array(fc.boolean(), { maxLength: 40 }), async (pieces, pauses) => {
      const pipe = new Pipe();
      let turn = 0;
      const pause = async (): Promise<void> => {
        if (pauses[turn++]) await new Promise((resolve) => setImmediate(resolve));
      };
      const got: Uint8Array[] = [];
      const reading = (async () => {
        for await (const piece of pipe) {
          await pause();
          got.push(new Uint8Array(piece));
        }
      })();
      for (const piece of pieces) {
        await pause();
        const lent = new Uint8Array(piece);
        await pipe.write(lent);
        lent.fill(0xff);
      }
      pipe.end();
      await reading;
      assert.deepEqual(got, pieces);
    }), { numRuns: 60 });
  });

  it('lets go of the writer when the reader leaves', async () => {
    const pipe = new Pipe();
    const reader = new ByteReader(pipe);
    const first = pipe.write(bytes(1, 2, 3, 4));
    assert.deepEqual(await reader.exactly(2), bytes(1, 2));
    await reader.close();
    await first;
    await pipe.write(bytes(5));
    await pipe.write(bytes(6));
    pipe.end();
  });

  it('lets go of a reader that leaves while it waits', async () => {
    const pipe = new Pipe();
    const reader = pipe[Symbol.asyncIterator]();
    const next = reader.next();
    await reader.return?.();
    assert.equal((await next).done, true);
    await pipe.write(bytes(1));
  });

  it('carries an error to the reader, whether it waits or not', async () => {
    for (const waits of [true, false]) {
      const pipe = new Pipe();
      const reader = pipe[Symbol.asyncIterator]();
      const write = pipe.write(bytes(1));
      await reader.next();
      const next = waits ? reader.next() : undefined;
      pipe.fail(new LazypullError('NETWORK', 'connection lost'));
      await write;
      await assert.rejects(next ?? reader.next(), { code: 'NETWORK', message: 'connection lost' });
      await assert.rejects(reader.next(), { code: 'NETWORK' });
      await assert.rejects(pipe.write(bytes(2)), { code: 'INTERNAL' });
    }
  });

  it('wraps what is no error of ours, and takes only the first', async () => {
    const pipe = new Pipe();
    pipe.fail(new Error('odd'));
    pipe.fail(new LazypullError('NETWORK', 'late'));
    await assert.rejects(pipe[Symbol.asyncIterator]().next(), { code: 'IO', message: /ends early: odd/ });
  });

  it('refuses to be misused', async () => {
    const pipe = new Pipe();
    void pipe.write(bytes(1));
    await assert.rejects(pipe.write(bytes(2)), { code: 'INTERNAL', message: /before the last write/ });
    const reader = pipe[Symbol.asyncIterator]();
    assert.throws(() => pipe[Symbol.asyncIterator](), { code: 'INTERNAL' });
    await reader.next();
    void reader.next();
    await assert.rejects(reader.next(), { code: 'INTERNAL' });
    pipe.end();
    await assert.rejects(pipe.write(bytes(3)), { code: 'INTERNAL', message: /after its end/ });
  });
});
