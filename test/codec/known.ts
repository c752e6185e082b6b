import type { ByteStream, WorkerPool } from '../../src/core/types.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';

/** Memory without a pool. */
const LENDER: WorkerPool = {
  jobs: 1,
  run: () => Promise.reject(new Error('no job')),
  lease: async (size) => ({ memory: new SharedArrayBuffer(size), release: () => undefined }),
};

/** All bytes of a stream, and the log of what its inflater knows of their matches. */
export async function knownOf(stream: ByteStream, room = 4 << 20): Promise<{ bytes: Uint8Array; known: Uint32Array }> {
  const memory = await MemberMemory.lease(LENDER, room);
  for await (const bytes of stream) memory.append(bytes, memory.used, true);
  return { bytes: memory.bytes.slice(), known: new Uint32Array(memory.lease.memory, memory.room, memory.known).slice() };
}
