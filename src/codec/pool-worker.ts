import { parentPort } from 'node:worker_threads';
import { runCompressChunks, runDigestChunks } from './chunk-jobs.ts';
import { runDeflatePiece, runGzipMembers } from './gzip-members.ts';
import { runPackWindows } from './needed-window.ts';
import type { WorkerReply } from './pool.ts';

interface Done {
  readonly result: unknown;
  /** Memory that moves instead of being copied. */
  readonly move: ArrayBuffer[];
}

/** What a thread of the pool can do, by name. */
const jobs: Record<string, (job: never) => Done | Promise<Done>> = {
  'gzip-members': (job) => {
    const result = runGzipMembers(job);
    return { result, move: result.overflow ? [result.overflow.buffer as ArrayBuffer] : [] };
  },
  'deflate-piece': (job) => {
    const result = runDeflatePiece(job);
    return { result, move: [result.bytes.buffer as ArrayBuffer] };
  },
  'digest-chunks': async (job) => {
    const result = await runDigestChunks(job);
    return { result, move: [result.buffer as ArrayBuffer] };
  },
  'pack-windows': async (job) => {
    const result = await runPackWindows(job);
    return { result, move: [result.bytes.buffer, result.sizes.buffer] as ArrayBuffer[] };
  },
  'compress-chunks': async (job) => {
    const result = await runCompressChunks(job);
    return { result, move: [result.sizes, result.compressed, ...(result.overflow ? [result.overflow] : [])].map(({ buffer }) => buffer as ArrayBuffer) };
  },
};

parentPort?.on('message', ({ kind, job }: { kind: string; job: never }) => void answer(kind, job));

async function answer(kind: string, job: never): Promise<void> {
  try {
    const work = jobs[kind];
    if (!work) throw new Error(`no job is called ${kind}`);
    const { result, move } = await work(job);
    parentPort?.postMessage({ result } satisfies WorkerReply, move);
  } catch (error) {
    parentPort?.postMessage({ error: { message: error instanceof Error ? error.message : String(error) } } satisfies WorkerReply);
  }
}
