import { parentPort } from 'node:worker_threads';
import { runDeflatePiece, runGzipMembers } from './gzip-members.ts';
import type { WorkerReply } from './pool.ts';

/** What a thread of the pool can do, by name; the second value lists memory that moves instead of being copied. */
const jobs: Record<string, (job: never) => { result: unknown; move: ArrayBuffer[] }> = {
  'gzip-members': (job) => {
    const result = runGzipMembers(job);
    return { result, move: result.overflow ? [result.overflow.buffer as ArrayBuffer] : [] };
  },
  'deflate-piece': (job) => {
    const result = runDeflatePiece(job);
    return { result, move: [result.bytes.buffer as ArrayBuffer] };
  },
};

parentPort?.on('message', ({ kind, job }: { kind: string; job: never }) => {
  try {
    const work = jobs[kind];
    if (!work) throw new Error(`no job is called ${kind}`);
    const { result, move } = work(job);
    parentPort?.postMessage({ result } satisfies WorkerReply, move);
  } catch (error) {
    parentPort?.postMessage({ error: { message: error instanceof Error ? error.message : String(error) } } satisfies WorkerReply);
  }
});
