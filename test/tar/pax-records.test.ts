import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { headerParts, type HeaderParts } from '../../src/tar/pax-records.ts';
import { archive, gnuLong, paxHeader, rawEntry, rawHeader } from '../support/tar-blocks.ts';
import { readTar } from '../support/tar-read.ts';

async function parts(...blocks: readonly Uint8Array[]): Promise<HeaderParts> {
  const { entries } = await readTar(archive(...blocks));
  assert.equal(entries.length, 1);
  return headerParts(entries[0]?.entry.header as Uint8Array);
}

const text = (pax: HeaderParts['pax']): [string, string][] => [...pax].map(([key, value]) => [key, Buffer.from(value).toString('latin1')]);

describe('parts of a header', () => {
  it('one block has no records', async () => {
    assert.deepEqual(await parts(rawEntry({ name: 'a' }, 'x')), { block: 0, records: [], global: false, largest: 0, pax: new Map() });
  });

  it('all records of an entry, known or not, the last of equal keys, values raw and also empty', async () => {
    const { pax, block, records, global, largest } = await parts(
      paxHeader([['mtime', '1.5'], ['SCHILY.xattr.user.a', Uint8Array.of(0xff, 0, 0x0a)], ['VENDOR.x', ''], ['comment', 'one'], ['comment', 'two']]),
      rawEntry({ name: 'a' }, 'x'),
    );
    assert.deepEqual(text(pax), [['mtime', '1.5'], ['SCHILY.xattr.user.a', '\xff\0\n'], ['VENDOR.x', ''], ['comment', 'two']]);
    assert.deepEqual({ block, records, global }, { block: 1024, records: [0], global: false });
    assert.ok(largest > 60 && largest < 512);
  });

  it('names that are not UTF-8', async () => {
    const { pax } = await parts(paxHeader([['SCHILY.xattr.user.\udcff', 'v']]), rawEntry({ name: 'a' }));
    assert.deepEqual(text(pax), [['SCHILY.xattr.user.\udcff', 'v']]);
  });

  it('as Go has it, the second of two pax headers counts alone, and a global header ends what came before it', async () => {
    assert.deepEqual(text((await parts(paxHeader([['uid', '1']]), paxHeader([['gid', '2']]), rawEntry({ name: 'a' }))).pax), [['gid', '2']]);
    const { pax, global, longLink } = await parts(paxHeader([['uid', '1']]), gnuLong('K', 'target'), paxHeader([['comment', 'x']], 'g'), rawEntry({ name: 'a' }));
    assert.deepEqual({ pax: text(pax), global, longLink }, { pax: [], global: true, longLink: undefined });
  });

  it('long links, also of entries that are no links', async () => {
    const { longLink, block } = await parts(gnuLong('K', 'target'), gnuLong('L', 'name'), rawHeader({ name: 'a', magic: 'ustar  \0' }));
    assert.equal(Buffer.from(longLink ?? []).toString(), 'target');
    assert.equal(block, 2048);
  });

  it('header bytes that are none are CORRUPT', () => {
    assert.throws(() => headerParts(rawEntry({ name: 'x', typeflag: 'x', size: 99_999 }, new Uint8Array(512))), { code: 'CORRUPT' });
  });
});
