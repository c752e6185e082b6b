import { hash } from 'node:crypto';
import { LazypullError } from '../core/errors.ts';

/** Digest algorithms of chunks; both have digests of 32 bytes. */
export type ChunkDigester = 'blake3' | 'sha256';

/** Bytes of a chunk digest. */
export const CHUNK_DIGEST_SIZE = 32;

/** 32 bytes, the caller's own, of bytes that are all at hand. */
export type DigestBytes = (bytes: Uint8Array) => Uint8Array;

let blake3: Promise<DigestBytes> | undefined;

/** The function for an algorithm, loaded when first asked for; from then on digesting is synchronous. */
export async function chunkDigester(digester: ChunkDigester): Promise<DigestBytes> {
  if (digester === 'sha256') return (bytes) => hash('sha256', bytes, 'buffer');
  if (digester !== 'blake3') throw new LazypullError('UNSUPPORTED', `chunk digests are blake3 or sha256, not ${String(digester satisfies never)}`);
  return (blake3 ??= nativeBlake3().catch(() => wasmBlake3()));
}

/** Native code for the usual platforms: about nine times as fast as the other, where the CPU has AVX-512. */
export async function nativeBlake3(): Promise<DigestBytes> {
  const { default: library } = await import('@napi-rs/blake-hash');
  return (bytes) => library.blake3(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

/** WebAssembly, for everywhere else. */
export async function wasmBlake3(): Promise<DigestBytes> {
  const { createBLAKE3 } = await import('hash-wasm');
  const hasher = await createBLAKE3();
  return (bytes) => hasher.init().update(bytes).digest('binary');
}
