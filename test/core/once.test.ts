import assert from 'node:assert/strict';
import { it } from 'node:test';
import { LazypullError, throwIfAborted } from '../../src/core/errors.ts';
import { Once, OnceFor } from '../../src/core/once.ts';

it('Once makes a value once, also for those who ask at the same time', async () => {
  let made = 0;
  const once = new Once(async () => ++made);
  assert.deepEqual(await Promise.all([once.get(), once.get(), once.get()]), [1, 1, 1]);
  assert.equal(await once.get(), 1);
});

it('Once does not keep a failure', async () => {
  let tries = 0;
  const once = new Once(async () => {
    tries += 1;
    if (tries === 1) throw new LazypullError('NETWORK', 'down');
    return tries;
  });
  const both = await Promise.allSettled([once.get(), once.get()]);
  assert.deepEqual(both.map(({ status }) => status), ['rejected', 'rejected'], 'both waited for the same attempt');
  assert.equal(await once.get(), 2);
});

it('Once tries again for those whose own signal is not the one that was aborted', async () => {
  const controller = new AbortController();
  const once = new Once(async (signal) => {
    await new Promise((resolve) => { setImmediate(resolve); });
    throwIfAborted(signal);
    return 'made';
  });
  const owner = once.get(controller.signal);
  const others = [once.get(), once.get(new AbortController().signal)];
  controller.abort();
  await assert.rejects(owner, (error: unknown) => error instanceof LazypullError && error.code === 'CANCELLED');
  assert.deepEqual(await Promise.all(others), ['made', 'made']);
});

it('OnceFor keeps one value for each thing', async () => {
  const asked: object[] = [];
  const lengths = new OnceFor(async (key: { readonly name: string }) => {
    asked.push(key);
    if (key.name === '') throw new Error('nothing');
    return key.name.length;
  });
  const [a, b] = [{ name: 'a' }, { name: 'bb' }];
  assert.deepEqual([await lengths.get(a), await lengths.get(b), await lengths.get(a)], [1, 2, 1]);
  assert.deepEqual(asked, [a, b]);
  const bad = { name: '' };
  await assert.rejects(lengths.get(bad));
  await assert.rejects(lengths.get(bad));
  assert.equal(asked.length, 4, 'failures are not kept');
});
