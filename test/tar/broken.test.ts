import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checksumOf, encodeChecksum, FIELD, TAR_BLOCK } from '../../src/tar/layout.ts';
import { archive, paxHeader, rawEntry } from '../support/tar-blocks.ts';
import { tarCases } from '../support/tar-corpus.ts';
import { outcome, readTar } from '../support/tar-read.ts';

// Whatever is done to an archive, reading it ends in a LazypullError or in a result. `outcome` passes everything else on.

const limits = { maxSize: 1 << 20, maxHeaderSize: 1 << 18, checkPaths: true } as const;
const CODES = ['ok', 'CORRUPT', 'UNSUPPORTED', 'LIMIT'];

async function survives(bytes: Uint8Array, what: string): Promise<string> {
  const result = await outcome(() => readTar(bytes, limits).catch((error) => { throw Object.assign(error, { what }); }));
  assert.ok(CODES.includes(result), `${what}: ${result}`);
  return result;
}

/** Offsets of the blocks whose checksum is right: the headers. */
function headersOf(bytes: Uint8Array): number[] {
  const found: number[] = [];
  for (let at = 0; at + TAR_BLOCK <= bytes.length; at += TAR_BLOCK) {
    const block = bytes.subarray(at, at + TAR_BLOCK);
    const sum = block.reduce((a, b) => a + b, 0);
    if (sum !== 0 && Number.parseInt(Buffer.from(block.subarray(FIELD.checksum.at, FIELD.checksum.at + 6)).toString('latin1'), 8) === checksumOf(block, 0, sum)) found.push(at);
  }
  return found;
}

describe('broken archives', { timeout: 120_000 }, () => {
  const cases = tarCases();

  it('every truncation of every archive', async () => {
    const results = new Map<string, number>();
    for (const { name, bytes } of cases) {
      // Each length near the borders of blocks, where it matters, and a few in between.
      for (let size = 0; size < bytes.length; size += size % TAR_BLOCK < 2 || size % TAR_BLOCK > 509 ? 1 : 60) {
        const result = await survives(bytes.subarray(0, size), `${name} cut to ${size}`);
        results.set(result, (results.get(result) ?? 0) + 1);
      }
    }
    // Cuts between entries are legal ends; all others are not.
    assert.ok((results.get('CORRUPT') ?? 0) > (results.get('ok') ?? 0) && (results.get('ok') ?? 0) > 50);
  });

  it('a bit flipped in a header is found by its checksum', async () => {
    for (const { name, bytes, expected } of cases) {
      if (expected !== 'ok') continue;
      const broken = new Uint8Array(bytes);
      for (const header of headersOf(bytes)) {
        for (let i = 0; i < TAR_BLOCK; i += 19) {
          broken[header + i] = (bytes[header + i] as number) ^ (1 << (i % 8));
          const result = await survives(broken, `${name} flipped at ${header + i}`);
          // Leading digits of the checksum field may turn into other spellings of the same number.
          if (i < FIELD.checksum.at || i >= FIELD.checksum.at + FIELD.checksum.size) assert.equal(result, 'CORRUPT', `${name} flipped at ${header + i}`);
          broken[header + i] = bytes[header + i] as number;
        }
      }
    }
  });

  it('bits flipped anywhere, with the checksums made right again', async () => {
    let round = 0;
    for (const { name, bytes } of cases) {
      const headers = headersOf(bytes);
      for (let at = round % 9; at < bytes.length; at += 9) {
        round += 1;
        const header = headers.find((start) => start <= at && at < start + TAR_BLOCK);
        // Long runs of zeros between headers say little; every 20th of their bytes will do.
        if (header === undefined && bytes[at] === 0 && round % 20 !== 0) continue;
        const broken = new Uint8Array(bytes);
        broken[at] = (bytes[at] as number) ^ (1 << (round % 8));
        if (header !== undefined) encodeChecksum(broken.subarray(header, header + TAR_BLOCK));
        await survives(broken, `${name} flipped at ${at}`);
      }
    }
  });

  it('header fields filled with anything', async () => {
    const fields = fc.array(fc.tuple(fc.constantFrom(...Object.values(FIELD)), fc.oneof(fc.uint8Array({ maxLength: 160 }), fc.string({ unit: fc.constantFrom('0', '7', ' ', '\0', '8', '/', '.'), maxLength: 12 }).map((text) => Buffer.from(text)))), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...cases.filter(({ bytes }) => bytes.length > TAR_BLOCK)), fields, fc.nat(), async ({ name, bytes }, changes, pick) => {
        const headers = headersOf(bytes);
        if (headers.length === 0) return;
        const broken = new Uint8Array(bytes);
        const block = broken.subarray(headers[pick % headers.length] as number).subarray(0, TAR_BLOCK);
        for (const [field, value] of changes) block.set(value.subarray(0, field.size), field.at);
        encodeChecksum(block);
        await survives(broken, name);
      }),
      { numRuns: 1000 },
    );
  });

  it('pax records of anything', async () => {
    const key = fc.oneof(
      fc.constantFrom('path', 'linkpath', 'size', 'uid', 'gid', 'uname', 'mtime', 'atime', 'GNU.sparse.map', 'GNU.sparse.size', 'GNU.sparse.major', 'GNU.sparse.minor', 'GNU.sparse.offset', 'GNU.sparse.numbytes', 'GNU.sparse.numblocks', 'GNU.sparse.realsize', 'GNU.sparse.name', 'SCHILY.xattr.a', 'LIBARCHIVE.xattr.%', 'SCHILY.devmajor', 'hdrcharset', 'x'),
      fc.string({ maxLength: 12 }),
    );
    const value = fc.oneof(fc.string({ unit: fc.constantFrom('0', '1', '9', ',', '.', '-'), maxLength: 24 }), fc.uint8Array({ maxLength: 24 }), fc.constantFrom('', '0', '1', '4', '9007199254740991', '9007199254740992', '0,4', '2,1,1,1'));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(key, value), { maxLength: 6 }), fc.constantFrom('x', 'g'), async (records, typeflag) => {
        await survives(archive(paxHeader(records, typeflag), rawEntry({ name: 'a' }, '1\n0\n')), 'records');
        await survives(archive(rawEntry({ name: 'x', typeflag }, records.map(([k, v]) => `${k.length} ${k}=${Buffer.from(v).toString('latin1')}\n`).join('')), rawEntry({ name: 'a' })), 'torn records');
      }),
      { numRuns: 1000 },
    );
  });

  it('any bytes at all', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 2000, size: 'max' }), async (bytes) => void (await survives(bytes, 'noise'))), { numRuns: 300 });
  });
});
