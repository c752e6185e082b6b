import { parentPort, workerData } from 'node:worker_threads';
import { SLOT_END } from './content-ring.ts';
import type { DigestMessage, DigestReply } from './digest-thread.ts';
import { CheckingEnd } from './ring-threads.ts';
import { StreamCheck } from './stream-check.ts';

const bytes = new Uint8Array(workerData as SharedArrayBuffer);
const reply = (message: DigestReply): void => parentPort?.postMessage(message);
let check = new StreamCheck(false);

parentPort?.on('message', (message: DigestMessage) => {
  if (message === 'end') {
    reply({ hex: check.finish() });
  } else if ('ring' in message) {
    follow(new CheckingEnd(message.ring, () => reply('news')));
  } else if ('gzip' in message) {
    check = new StreamCheck(message.gzip);
  } else {
    const { at, length, ends } = message;
    check.update(bytes.subarray(at, at + length), ends);
    reply(check.bad === undefined ? {} : { bad: check.bad });
  }
});

/** Looks at a stream of gzip members until its end, or until nobody wants to know. */
function follow(ring: CheckingEnd): void {
  const members = new StreamCheck(true);
  for (let slot = ring.next(); slot; slot = ring.next()) {
    members.update(slot.bytes, slot.ends);
    const last = slot.end !== SLOT_END.none;
    ring.checked(members.bad, last ? Buffer.from(members.finish(), 'hex') : undefined);
    if (last) return;
  }
}
