import { parentPort, workerData } from 'node:worker_threads';
import type { DigestMessage, DigestReply, DigestSetup } from './digest-thread.ts';
import { StreamCheck } from './stream-check.ts';

const { memory, slotSize } = workerData as DigestSetup;
const bytes = new Uint8Array(memory);
const reply = (message: DigestReply): void => parentPort?.postMessage(message);
let check = new StreamCheck(false);

parentPort?.on('message', (message: DigestMessage) => {
  if (message === 'end') {
    reply({ hex: check.finish() });
  } else if ('gzip' in message) {
    check = new StreamCheck(message.gzip);
  } else {
    const { slot, length, ends } = message;
    check.update(bytes.subarray(slot * slotSize, slot * slotSize + length), ends);
    reply({ slot, ...(check.bad !== undefined && { bad: check.bad }) });
  }
});
