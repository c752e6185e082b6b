import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, createGunzip, deflateRawSync } from 'node:zlib';
import { gunzip } from '../../src/codec/gzip.ts';
import { chunkDigester, type DigestBytes, nativeBlake3, wasmBlake3 } from '../../src/codec/blake3.ts';
import { DEFAULT_LEVEL, deflateRaw } from '../../src/codec/deflate.ts';
import { detectCompression } from '../../src/codec/compression.ts';
import { lz4Compress, lz4Decompress } from '../../src/codec/lz4.ts';
import { MemberMemory } from '../../src/codec/member-memory.ts';
import { zstdEncode } from '../../src/codec/zstd-encode.ts';
import { streamOf } from '../../src/core/stream.ts';
import { parseIndex, parseManifest } from '../../src/oci/documents.ts';
import { TarReader } from '../../src/tar/read.ts';
import { findTool } from '../support/peers.ts';

// Usage: npm run bench -- kernels LAYOUT TAG. Inflate: the image's largest gzip layer, all of it. Deflate: the files of that
// layer as a converter cuts them, one member each and 4 MiB at most; lz4 and chunk digests: the same pieces. Chunks: the files in chunks of
// 1 MiB, with and without what the layer's gzip stream tells of their matches. All in one thread; CPU time (user and system), best
// of several rounds in which the candidates take turns.

const ROUNDS = 3;
const CHUNK = 4 << 20;
/** Of the formats whose chunks are zstd frames or lz4 blocks. */
const SMALL_CHUNK = 1 << 20;
/** Bytes of files that are compressed. */
const SAMPLE = 96_000_000;

interface Result {
  /** MB (1e6 bytes) of plain data per CPU second. */
  readonly rate: number;
  /** Bytes of compressed data. */
  readonly size?: number;
}

interface KnownChunk {
  readonly bytes: Uint8Array;
  /** Log of the matches that the layer's gzip stream has in them. */
  readonly known: Uint32Array;
}

type Candidate = { readonly name: string; readonly run: () => Promise<{ readonly cpu: number; readonly size?: number }> };

/** Rates of the codec's kernels and of their peers over one layer of an image. */
export async function benchKernels(layout: string, tag: string): Promise<unknown> {
  const layer = largestLayer(layout, tag);
  const { pieces, chunks, tarSize } = await cut(layer.bytes);
  const joined = Buffer.concat(pieces);
  const plain = joined.length;
  const blocks = pieces.map((piece) => lz4Compress(piece).slice());
  const library = await import('@cloudpss/zstd/wasm');
  const native = await nativeBlake3().catch(() => undefined);
  return {
    scenario: 'kernels',
    isolates: 'inflate, deflate, lz4 and chunk digests of one layer in one thread, no disk, no network',
    node: process.version,
    layer: { digest: layer.digest, packed: layer.bytes.length, tar: tarSize },
    inflate: await compare(tarSize, [
      { name: 'lazypull gunzip, CRC checked', run: () => timed(async () => void (await drain(gunzip(streamOf(...inMegabytes(layer.bytes)))))) },
      { name: 'node:zlib gunzip, 256 KiB chunks', run: () => timed(() => nodeGunzip(layer.bytes)) },
      ...command('gzip', ['-dc'], layer.bytes),
      ...command('pigz', ['-p', '1', '-dc'], layer.bytes),
    ]),
    deflate: {
      members: pieces.length,
      plain,
      ...(await compare(plain, [
        ...[1, 5, DEFAULT_LEVEL, 9].map((level) => each(pieces, `lazypull level ${level}`, (piece) => deflateRaw(piece, level))),
        ...[1, 6, 9].map((level) => each(pieces, `node:zlib level ${level}`, (piece) => deflateRawSync(piece, { level }))),
        ...command('gzip', ['-9c'], joined, true),
        ...command('pigz', ['-p', '1', '-9c'], joined, true),
      ])),
    },
    lz4: await compare(plain, [
      each(pieces, 'lazypull', lz4Compress),
      { name: 'lazypull, decompress', run: () => timed(() => blocks.forEach((block, i) => lz4Decompress(block, pieces[i]?.length ?? 0))) },
      ...command('lz4', ['-1c'], joined, true),
    ]),
    chunks: {
      chunks: chunks.length,
      ...(await compare(plain, [
        each(chunks, 'lazypull zstd, matches known', ({ bytes, known }) => zstdEncode(bytes, known)),
        each(chunks, 'lazypull zstd', ({ bytes }) => zstdEncode(bytes)),
        each(chunks, 'libzstd level 3, WebAssembly', ({ bytes }) => library.compress(bytes, 3)),
        each(chunks, 'lazypull lz4, matches known', ({ bytes, known }) => lz4Compress(bytes, known)),
        each(chunks, 'lazypull lz4', ({ bytes }) => lz4Compress(bytes)),
      ])),
    },
    digests: await compare(plain, [
      digests(pieces, 'blake3, WebAssembly', await wasmBlake3()),
      ...(native ? [digests(pieces, 'blake3, native', native)] : []),
      digests(pieces, 'sha256', await chunkDigester('sha256')),
    ]),
  };
}

async function compare(bytes: number, candidates: readonly Candidate[]): Promise<Record<string, Result>> {
  const best = new Map<string, { cpu: number; size?: number }>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name, run } of candidates) {
      const cost = await run();
      if (cost.cpu < (best.get(name)?.cpu ?? Infinity)) best.set(name, cost);
    }
  }
  return Object.fromEntries([...best].map(([name, { cpu, size }]) => [name, { rate: Math.round(bytes / cpu), ...(size !== undefined && { size }) }]));
}

/** CPU microseconds of this process. */
async function timed(work: () => Promise<void> | void): Promise<{ cpu: number }> {
  const start = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(start);
  return { cpu: user + system };
}

function each<T>(items: readonly T[], name: string, compress: (item: T) => Uint8Array): Candidate {
  return {
    name,
    run: async () => {
      let size = 0;
      const { cpu } = await timed(() => {
        for (const item of items) size += compress(item).length;
      });
      return { cpu, size };
    },
  };
}

function digests(pieces: readonly Uint8Array[], name: string, digest: DigestBytes): Candidate {
  return { name, run: () => timed(() => pieces.forEach((piece) => digest(piece))) };
}

/** A command line tool fed through pipes, when installed. It compresses the files as one stream, which helps its size. */
function command(name: string, args: readonly string[], input: Uint8Array, packs = false): Candidate[] {
  const path = findTool(name);
  if (!path) return [];
  const run = async (): Promise<{ cpu: number; size?: number }> => {
    const script = 'TIMEFORMAT="%U %S"; time "$@"';
    const { status, stdout, stderr } = spawnSync('/bin/bash', ['-c', script, 'bash', path, ...args], { input, maxBuffer: 2 * SAMPLE, stdio: ['pipe', packs ? 'pipe' : 'ignore', 'pipe'] });
    if (status !== 0) throw new Error(`${name} ${args.join(' ')} ended with status ${status}`);
    const times = (stderr.toString().trim().split('\n').at(-1) ?? '').split(' ').map(Number);
    return { cpu: times.reduce((sum, seconds) => sum + seconds * 1e6, 0), ...(packs && { size: stdout.length }) };
  };
  return [{ name: `${name} ${args.join(' ')}`, run }];
}

async function drain(stream: AsyncIterable<Uint8Array>): Promise<number> {
  let size = 0;
  for await (const bytes of stream) size += bytes.length;
  return size;
}

async function nodeGunzip(packed: Uint8Array): Promise<void> {
  const stream = createGunzip({ chunkSize: 1 << 18 });
  const done = drain(stream);
  for (const part of inMegabytes(packed)) if (!stream.write(part)) await once(stream, 'drain');
  stream.end();
  await done;
}

function* inMegabytes(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1 << 20) yield bytes.subarray(at, at + (1 << 20));
}

function largestLayer(folder: string, name: string): { digest: string; bytes: Uint8Array } {
  const blob = (digest: string): Uint8Array => readFileSync(join(folder, 'blobs', ...digest.split(':')));
  const index = parseIndex(readFileSync(join(folder, 'index.json')));
  const entry = index.manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === name);
  if (!entry) throw new Error(`${folder} has no image ${name}`);
  const largest = [...parseManifest(blob(entry.digest)).layers].sort((a, b) => b.size - a.size)[0];
  const bytes = largest ? blob(largest.digest) : new Uint8Array(0);
  if (!largest || detectCompression(bytes) !== 'gzip') throw new Error(`${name} has no gzip layer`);
  return { digest: largest.digest, bytes };
}

/** The layer's files cut into members and into chunks; checks on the way that two ways of inflating agree. */
async function cut(packed: Uint8Array): Promise<{ pieces: Uint8Array[]; chunks: KnownChunk[]; tarSize: number }> {
  const found: Uint8Array[] = [];
  const small: KnownChunk[] = [];
  const memory = await MemberMemory.lease({ jobs: 1, run: () => Promise.reject(new Error('no job')), lease: async (room) => ({ memory: new SharedArrayBuffer(room), release: () => undefined }) }, SMALL_CHUNK);
  const flush = (): void => {
    if (memory.used > 0) small.push({ bytes: memory.bytes.slice(), known: new Uint32Array(memory.lease.memory, memory.room, memory.known).slice() });
    memory.used = memory.known = 0;
  };
  let tar = 0;
  let ours = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const bytes of gunzip(streamOf(packed))) {
      tar += bytes.length;
      ours = crc32(bytes, ours);
      yield bytes;
    }
  };
  const reader = new TarReader(counted());
  let size = 0;
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    if (size >= SAMPLE) continue;
    const parts: Uint8Array[] = [];
    for await (const bytes of reader.body()) {
      parts.push(new Uint8Array(bytes));
      for (let at = 0; at < bytes.length; ) {
        const part = bytes.subarray(at, at + SMALL_CHUNK - memory.used);
        memory.append(part, memory.used, true);
        at += part.length;
        if (memory.used === SMALL_CHUNK) flush();
      }
    }
    flush();
    const file = Buffer.concat(parts);
    for (let at = 0; at < file.length; at += CHUNK) found.push(file.subarray(at, at + CHUNK));
    size += file.length;
  }
  await drain(reader.trailer());
  if (ours !== new DataView(packed.buffer, packed.byteOffset + packed.length - 8, 8).getUint32(0, true)) throw new Error('the layer is not one gzip member');
  return { pieces: found, chunks: small, tarSize: tar };
}
