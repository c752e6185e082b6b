import { parentPort, workerData } from 'node:worker_threads';
import { LazypullError } from '../core/errors.ts';
import { SLOT_END, type SlotEnd, SOURCE_STATE, type SourceState } from './content-ring.ts';
import { GunzipMachine } from './gunzip-machine.ts';
import type { InflateMessage, InflateReply } from './inflate-thread.ts';
import { InflatingEnd } from './ring-threads.ts';
import { slotLog } from './slot-matches.ts';
import type { MemberEnd } from './stream-check.ts';

const NOTHING = new Uint8Array(0);

const reply = (message: InflateReply): void => parentPort?.postMessage(message);
const ring = new InflatingEnd(workerData as SharedArrayBuffer, () => reply('news'));

parentPort?.on('message', ({ what, maxSize }: InflateMessage) => {
  let ends: MemberEnd[] = [];
  let given = 0;
  const give = (bytes: Uint8Array, end: SlotEnd): boolean => {
    const wanted = ring.fill(bytes, ends, slotLog(bytes), end);
    ends = [];
    given += bytes.length;
    return wanted;
  };
  let machine: GunzipMachine | undefined;
  try {
    machine = new GunzipMachine({ what, maxSize, onTrailer: ({ crc, offset, out }) => void ends.push({ at: out - given, crc, offset }) });
    const why = inflate(machine, (bytes) => give(bytes, SLOT_END.none));
    if (why === SOURCE_STATE.ended) give(NOTHING, SLOT_END.complete);
    else if (why === SOURCE_STATE.failed) give(machine.told() ?? NOTHING, SLOT_END.failed);
  } catch (error) {
    if (!(error instanceof LazypullError)) throw error;
    reply({ code: error.code, message: error.message, ...(error.offset !== undefined && { offset: error.offset }) });
    give(machine?.told() ?? NOTHING, SLOT_END.broken);
  } finally {
    machine?.close();
  }
});

/** Inflates all that is handed over, and returns why there is no more. */
function inflate(machine: GunzipMachine, give: (bytes: Uint8Array) => boolean): SourceState {
  for (;;) {
    const packed = ring.packed();
    const ended = packed === SOURCE_STATE.ended;
    if (ended) machine.end();
    else if (packed instanceof Uint8Array) ring.consumed(machine.feed(packed));
    else return packed;
    for (let bytes = machine.step(); bytes; bytes = machine.step()) if (!give(bytes)) return SOURCE_STATE.left;
    if (ended) return SOURCE_STATE.ended;
  }
}
