import { parentPort, workerData } from 'node:worker_threads';
import type { DigestMessage, DigestReply, DigestSetup } from './digest-thread.ts';
import { StreamCheck } from './stream-check.ts';

const { memory, slotSize, gzip } = workerData as DigestSetup;
const bytes = new Uint8Array(memory);
const check = new StreamCheck(gzip);

parentPort?.on('message', ({ slot, length, ends }: DigestMessage) => {
  if (length < 0) {
    parentPort?.postMessage({ hex: check.finish() } satisfies DigestReply);
    return;
  }
  check.update(bytes.subarray(slot * slotSize, slot * slotSize + length), ends);
  parentPort?.postMessage({ slot, ...(check.bad !== undefined && { bad: check.bad }) } satisfies DigestReply);
});
