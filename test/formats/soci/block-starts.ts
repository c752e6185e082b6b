import assert from 'node:assert/strict';
import { Z_BLOCK, Z_STREAM_END, ZStream, zlibInflate, zlibInflateEnd, zlibInflateInit2, zlibInflateReset2 } from 'pako';

/** A place in front of a deflate block, as zlib's interface tells of it. */
export interface BlockStart {
  readonly in: number;
  readonly out: number;
  readonly bits: number;
  readonly first: boolean;
}

/** Every block start of a gzip stream by pako's inflate with Z_BLOCK: no code is shared with what is under test. */
export function blockStarts(packed: Uint8Array): BlockStart[] {
  const stream = new ZStream();
  assert.equal(zlibInflateInit2(stream, 47), 0);
  stream.input = packed;
  stream.next_in = 0;
  stream.avail_in = packed.length;
  stream.output = new Uint8Array(1 << 16);
  stream.avail_out = 0;
  const starts: BlockStart[] = [];
  let out = 0;
  let first = true;
  for (;;) {
    if (stream.avail_out === 0) {
      stream.next_out = 0;
      stream.avail_out = stream.output.length;
    }
    const before = stream.avail_out;
    const result = zlibInflate(stream, Z_BLOCK);
    out += before - stream.avail_out;
    if (result === Z_STREAM_END) {
      const rest = packed.subarray(stream.next_in);
      if (rest.every((byte) => byte === 0)) break;
      assert.equal(zlibInflateReset2(stream, 47), 0);
      first = true;
      continue;
    }
    assert.equal(result, 0, `pako: ${result} at ${stream.next_in}`);
    if (stream.data_type & 128 && !(stream.data_type & 64)) {
      starts.push({ in: stream.next_in, out, bits: stream.data_type & 7, first });
      first = false;
    }
  }
  zlibInflateEnd(stream);
  return starts;
}
