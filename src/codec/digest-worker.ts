import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { DigestMessage, DigestReply } from './digest-thread.ts';

/** As in digest-thread.ts, which this script does not load: that would only take time. */
const SLOT = 1 << 20;
const hash = createHash('sha256');
const memory = new Uint8Array(workerData as SharedArrayBuffer);

parentPort?.on('message', ({ slot, length }: DigestMessage) => {
  if (length < 0) {
    parentPort?.postMessage({ hex: hash.digest('hex') } satisfies DigestReply);
    return;
  }
  hash.update(memory.subarray(slot * SLOT, slot * SLOT + length));
  parentPort?.postMessage({ slot } satisfies DigestReply);
});
