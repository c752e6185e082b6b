import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { extract, pack, type Header } from 'tar-stream';
import type { ByteStream } from '../../src/core/types.ts';
import type { TarType } from '../../src/tar/entry.ts';
import { archive, entries, type Item } from '../support/tar-blocks.ts';
import { readTar } from '../support/tar-read.ts';

// Held against tar-stream, both ways, in what tar-stream keeps: names in UTF-8, whole seconds from the epoch on, no xattrs.

const TYPES: Readonly<Record<TarType, Header['type']>> = { file: 'file', hardlink: 'link', symlink: 'symlink', char: 'character-device', block: 'block-device', directory: 'directory', fifo: 'fifo' };

interface Plain {
  path: string;
  type: TarType;
  linkName: string;
  mode: number;
  uid: number;
  gid: number;
  seconds: number;
  major: number;
  minor: number;
  body: string;
}

// Every component has letters: tar-stream gives names such as ".." a meaning of their own.
const component = fc.string({ unit: fc.constantFrom('a', 'b', 'z', '_', '-', ' ', 'é', '文'), minLength: 1, maxLength: 50 });
const path = fc.array(component, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('/'));
const plain: fc.Arbitrary<Plain> = fc
  .record(
    {
      path,
      type: fc.constantFrom<TarType>('file', 'file', 'directory', 'symlink', 'hardlink', 'char', 'block', 'fifo'),
      linkName: path,
      // It takes a zero for "not given", and writes ids of six digits at most.
      mode: fc.integer({ min: 1, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 0o777777 }),
      gid: fc.integer({ min: 0, max: 0o777777 }),
      // It cuts times to 31 bits.
      seconds: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      major: fc.integer({ min: 0, max: 0o777777 }),
      minor: fc.integer({ min: 0, max: 0o777777 }),
      body: fc.string({ unit: fc.constantFrom('x', '\0', '\n'), maxLength: 1500 }),
    },
    { noNullPrototype: true },
  )
  .map((each) => {
    const device = each.type === 'char' || each.type === 'block';
    const linked = each.type === 'symlink' || each.type === 'hardlink';
    return { ...each, linkName: linked ? each.linkName : '', major: device ? each.major : 0, minor: device ? each.minor : 0, body: each.type === 'file' ? each.body : '' };
  });

async function theirs(bytes: Uint8Array): Promise<Plain[]> {
  const found: Plain[] = [];
  const reader = extract();
  Readable.from([Buffer.from(bytes)]).pipe(reader);
  for await (const entry of reader) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    const { name, type, linkname, mode, uid, gid, mtime, devmajor, devminor } = entry.header;
    const ours = (Object.keys(TYPES) as TarType[]).find((key) => TYPES[key] === type) ?? 'file';
    found.push({ path: name, type: ours, linkName: linkname ?? '', mode, uid, gid, seconds: Number(mtime) / 1000, major: devmajor ?? 0, minor: devminor ?? 0, body: Buffer.concat(parts).toString('latin1') });
  }
  return found;
}

async function packed(all: readonly Plain[]): Promise<Uint8Array> {
  const writer = pack();
  for (const { path: name, type, linkName, mode, uid, gid, seconds, major, minor, body } of all) {
    writer.entry({ name, type: TYPES[type], mode, uid, gid, mtime: new Date(seconds * 1000), devmajor: major, devminor: minor, linkname: linkName, size: body.length }, Buffer.from(body, 'latin1'));
  }
  writer.finalize();
  const parts: Buffer[] = [];
  for await (const part of writer) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

async function ours(input: Uint8Array | ByteStream): Promise<Plain[]> {
  const { entries: all } = await readTar(input);
  return all.map(({ entry: { path: name, type, linkName, mode, uid, gid, mtime, major, minor }, body }) => ({ path: name, type, linkName, mode, uid, gid, seconds: mtime.seconds, major, minor, body: Buffer.from(body).toString('latin1') }));
}

describe('tar-stream', () => {
  it('reads what we write', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(plain, { maxLength: 5 }), async (all) => {
        const items = all.map(({ seconds, ...rest }): Item => ({ ...rest, mtime: { seconds, nanoseconds: 0 } }));
        assert.deepEqual(await theirs(archive(entries(...items))), all);
      }),
      { numRuns: 150 },
    );
  });
  it('writes what we read', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(plain, { maxLength: 5 }), async (all) => {
        assert.deepEqual(await ours(await packed(all)), all);
      }),
      { numRuns: 150 },
    );
  });
});
