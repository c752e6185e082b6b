import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../src/core/digest.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import { CountingSource, MemorySource } from '../../src/core/source.ts';
import { collect } from '../../src/core/stream.ts';
import type { Format } from '../../src/core/format.ts';
import type { FileNode, OpenLayer, RegularNode } from '../../src/core/types.ts';
import { lookup } from '../../src/layer/lookup.ts';
import { LayerReader } from '../../src/layer/reader.ts';
import { walk } from '../../src/layer/walk.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { cleanPath } from '../../src/tar/path.ts';
import { TarReader } from '../../src/tar/read.ts';
import { convertTar, stored, strangers, tarInput, type Converted } from '../support/layers.ts';
import { noise } from '../support/noise.ts';
import { assertCancelled, assertHeldBack, paceOf } from '../support/pace.ts';
import { archive, entries } from '../support/tar-blocks.ts';
import { directory, file, hardlink, symlink, tarCases, xattrs } from '../support/tar-corpus.ts';

export interface Contract<O> {
  readonly format: Format<O>;
  /** Ways of writing that differ in their bytes; each is put through everything. */
  readonly options: Readonly<Record<string, O>>;
  /** Corpus archives that the format may refuse, with the code it must give. */
  readonly refuses: (option: string, name: string) => ErrorCode | undefined;
  /** Most requests that opening a small layer may take. */
  readonly openRequests: number;
}

/** What every format promises. A case that a format cannot have is named in `refuses`, with its reason as an error code. */
export function formatContract<O>({ format, options, refuses, openRequests }: Contract<O>): void {
  for (const [option, values] of Object.entries(options)) {
    const name = `${format.name} (${option})`;
    const convert = (tar: Uint8Array): Promise<Converted> => convertTar(format, tar, values);

    test(`${name}: every archive of the corpus is converted faithfully or refused`, async () => {
      for (const { name: archiveName, bytes, expected } of tarCases()) {
        const code = expected === 'ok' ? refuses(option, archiveName) : expected;
        if (code) {
          await assert.rejects(convert(bytes), (error) => error instanceof LazypullError && error.code === code, `${archiveName} must be ${code}`);
          continue;
        }
        const converted = await convert(bytes).catch((error: unknown) => assert.fail(`${archiveName}: ${String(error)}`));
        assert.ok(await format.detect(stored(converted)), archiveName);
        await assertSameTree(bytes, await format.open(stored(converted)), archiveName);
      }
    });

    test(`${name}: opening and reading touch only what they need`, async () => {
      const converted = await convert(sample());
      const source = new CountingSource(converted.store.open(converted.layer.descriptor));
      const layer = await format.open(stored(converted, source));
      assert.ok(source.requests <= openRequests, `${source.requests} requests to open`);
      const opened = source.bytes;
      source.requests = 0;
      source.bytes = 0;
      const node = lookup(layer.index.root, 'data/small')?.node as RegularNode;
      assert.equal(source.requests, 0, 'a lookup reads nothing');
      const bytes = await new LayerReader(layer).readFile(node, 100, 4096);
      assert.deepEqual(Buffer.from(bytes), Buffer.from(noise(20_000).subarray(100, 4196)));
      assert.equal(source.requests, 1, 'a read is one request');
      assert.ok(opened + source.bytes < converted.blob.length / 2, `${opened} + ${source.bytes} of ${converted.blob.length} bytes`);
    });

    test(`${name}: chunks lie in order, and extents tile their files`, async () => {
      const layer = await format.open(stored(await convert(sample())));
      let last = -1;
      for (const chunk of layer.index.chunks) {
        const at = chunk.offset + (chunk.skip ?? 0) / 2 ** 30;
        assert.ok(at > last);
        last = at;
      }
      for (const { path, node } of walk(layer.index.root)) {
        if (node.type !== 'file') continue;
        let at = 0;
        for (const { fileOffset, length, chunk, chunkOffset } of node.extents) {
          assert.equal(fileOffset, at, path);
          assert.ok(chunkOffset + length <= chunk.size && layer.index.chunks.includes(chunk), path);
          at += length;
        }
        assert.equal(at, node.size, path);
      }
    });

    test(`${name}: flipped bits and cut ends give an error or the right bytes`, async () => {
      const converted = await convert(archive(entries(directory('d/'), file('d/text', 'words and words '.repeat(400)), file('d/noise', noise(3000)), hardlink('d/again', 'd/text'), symlink('l', 'd/text'))));
      const good = await contents(await format.open(stored(converted)));
      const check = async (blob: Uint8Array): Promise<void> => {
        const layer = { ...stored(converted, new MemorySource(blob)), descriptor: { ...converted.layer.descriptor, size: blob.length } };
        try {
          await format.detect(layer);
        } catch (error) {
          assert.fail(`detect threw ${String(error)}`);
        }
        try {
          assert.deepEqual(await contents(await format.open(layer)), good);
        } catch (error) {
          if (!(error instanceof LazypullError) || error.code === 'INTERNAL') throw error;
        }
        // Without the annotations nothing vouches for the index: it may be anything, but it must not be a crash.
        const bare = strangers(blob);
        await (await format.detect(bare) ? format.open(bare).then(contents) : Promise.resolve()).catch((error: unknown) => {
          if (!(error instanceof LazypullError) || error.code === 'INTERNAL') throw error;
        });
      };
      await fc.assert(
        fc.asyncProperty(fc.array(fc.tuple(fc.nat(converted.blob.length - 1), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 3 }), async (flips) => {
          const blob = converted.blob.slice();
          for (const [at, bits] of flips) blob[at] = (blob[at] as number) ^ bits;
          await check(blob);
        }),
        { numRuns: 150 },
      );
      await fc.assert(fc.asyncProperty(fc.nat(converted.blob.length - 1), (size) => check(converted.blob.slice(0, size))), { numRuns: 60 });
    });

    if (format.kind === 'indexing') continue;

    test(`${name}: a cancelled conversion stores nothing`, () => assertCancelled(format, tarInput(sample(), 10_000), 100_000, values));

    test(`${name}: a slow sink holds the source back`, async () => {
      assertHeldBack(await paceOf(format, values));
    });
  }
}

function sample(): Uint8Array {
  const list = [directory('data/'), file('data/first', noise(300_000, 7)), file('data/small', noise(20_000)), file('data/empty'), hardlink('data/link', 'data/small'), symlink('data/to', 'small'), file('data/last', noise(600_000, 9))];
  return archive(entries(...list), xattrs().subarray(0, -1024));
}

/** Every file's bytes, read the lazy way. */
async function contents(layer: OpenLayer): Promise<Record<string, string>> {
  const reader = new LayerReader(layer);
  const all: Record<string, string> = {};
  for (const { path, node } of walk(layer.index.root, { sorted: true })) {
    all[path] = node.type === 'file' ? digestOf(await collect(reader.stream(node), 1 << 24)) : node.type === 'symlink' ? node.target : node.type;
  }
  return all;
}

/** Holds a layer's index and content against the tar it was made from, entry by entry; of a path's entries the last one counts. */
async function assertSameTree(tar: Uint8Array, layer: OpenLayer, what: string): Promise<void> {
  const reader = new TarReader(tarInput(tar).tar());
  const last = new Map<string, { entry: TarEntry; body: Uint8Array }>();
  for (let entry = await reader.next(); entry; entry = await reader.next()) {
    const path = cleanPath(entry.path);
    last.delete(path);
    last.set(path, { entry, body: await collect(reader.body(), 1 << 24) });
  }
  const files = new LayerReader(layer);
  let found = 0;
  for (const { path, node } of walk(layer.index.root)) {
    const wanted = last.get(path);
    if (!wanted) {
      assert.ok(node.type === 'directory' && node.implied, `${what}: ${path} is not in the tar`);
      continue;
    }
    found += 1;
    await assertSameNode(wanted, node, files, layer, `${what}: ${path}`);
  }
  const reserved = new Set(layer.reserved ?? []);
  assert.equal(found, [...last.keys()].filter((path) => !reserved.has(path)).length, `${what}: entries are missing`);
}

async function assertSameNode(
  { entry, body }: { entry: TarEntry; body: Uint8Array },
  node: FileNode,
  files: LayerReader,
  layer: OpenLayer,
  what: string,
): Promise<void> {
  if (entry.type === 'hardlink') {
    const target = cleanPath(entry.linkName);
    assert.equal(node, lookup(layer.index.root, target, { followSymlinks: false })?.node, what);
    return;
  }
  const { mode, uid, gid, xattrs: attributes } = node;
  assert.deepEqual({ type: node.type, mode, uid, gid, xattrs: [...attributes].map(hex).sort() }, { type: entry.type, mode: entry.mode, uid: entry.uid, gid: entry.gid, xattrs: [...entry.xattrs].map(hex).sort() }, what);
  assert.deepEqual([node.userName ?? '', node.groupName ?? ''], [entry.userName, entry.groupName], what);
  const exact = entry.mtime.seconds + entry.mtime.nanoseconds / 1e9;
  assert.ok(Math.abs(node.mtime.seconds + node.mtime.nanoseconds / 1e9 - exact) <= 0.5, `${what}: mtime`);
  if (node.type === 'symlink') assert.equal(node.target, entry.linkName, what);
  if (node.type === 'char' || node.type === 'block') assert.deepEqual([node.major, node.minor], [entry.major, entry.minor], what);
  if (node.type === 'file') assert.deepEqual(Buffer.from(await collect(files.stream(node), 1 << 24)), Buffer.from(body), what);
}

const hex = ([name, value]: readonly [string, Uint8Array]): string => `${name}=${Buffer.from(value).toString('hex')}`;
