import assert from 'node:assert/strict';
import fc from 'fast-check';
import { concat } from '../../src/core/bytes.ts';
import { digestOf, type Digest } from '../../src/core/digest.ts';
import { MemorySource } from '../../src/core/source.ts';
import type { Attributes, ByteSource, DirectoryNode, Extent, FileNode, RegularNode } from '../../src/core/types.ts';
import { linkCounts, walk } from '../../src/layer/walk.ts';
import { mapRuns, type DeviceRun, type Place } from '../../src/erofs/place.ts';
import { planErofs, type ErofsOptions, type ErofsPlan } from '../../src/erofs/plan.ts';
import { streamErofsFile } from '../../src/erofs/read-content.ts';
import { openErofs } from '../../src/erofs/read.ts';
import { writeErofs, type WriteErofsOptions } from '../../src/erofs/write.ts';

/** Trees for EROFS tests, and what can be said of a tree so that two can be compared. */

export type Blocks = 512 | 1024 | 2048 | 4096;

/** The image of a plan, in one piece. */
export async function imageOf(plan: ErofsPlan, options: WriteErofsOptions = {}): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await writeErofs(plan, async (bytes) => void parts.push(Uint8Array.from(bytes)), options);
  return concat(parts);
}

export async function build(root: DirectoryNode, options: ErofsOptions): Promise<Uint8Array> {
  return imageOf(planErofs(root, options));
}

/** For trees without content. */
export const nowhere: Place = () => undefined;

/** Everything about a tree that an image keeps, one line per name, sorted. */
export async function describe(root: DirectoryNode, contentOf: (node: RegularNode) => Promise<Digest | undefined> | Digest | undefined): Promise<readonly string[]> {
  const lines: string[] = [];
  const links = linkCounts(root);
  const firsts = new Map<FileNode, string>();
  for (const { path, node } of walk(root, { sorted: true })) {
    const first = firsts.get(node);
    if (first === undefined) firsts.set(node, path);
    const facts = [
      node.type,
      node.mode.toString(8),
      `${node.uid}:${node.gid}`,
      `${node.mtime.seconds}+${node.mtime.nanoseconds}`,
      `links ${links.get(node)}`,
      ...[...node.xattrs].map(([name, value]) => `${escape(name)}=${Buffer.from(value).toString('hex')}`).sort(),
      node.type === 'char' || node.type === 'block' ? `${node.major}:${node.minor}` : '',
      node.type === 'symlink' ? `-> ${escape(node.target)}` : '',
      node.type === 'file' ? `${node.size} ${(await contentOf(node)) ?? ''}` : '',
      first === undefined ? '' : `= ${escape(first)}`,
    ];
    lines.push(`${escape(path)}: ${facts.filter((fact) => fact !== '').join(' ')}`);
  }
  return lines;
}

/** Lone surrogates would make failures unreadable. */
export const escape = (text: string): string => JSON.stringify(text).slice(1, -1);

/** Fails with the first lines that differ, cut short: names may be long. */
export function sameLines(got: readonly string[], wanted: readonly string[], what = ''): void {
  const a = new Set(got);
  const b = new Set(wanted);
  const only = (sign: string, lines: readonly string[], other: ReadonlySet<string>): string[] => lines.filter((line) => !other.has(line)).slice(0, 8).map((line) => `${sign} ${line.slice(0, 240)}`);
  assert.deepEqual([...only('+', got, b), ...only('-', wanted, a)], [], what);
  assert.ok(got.length === wanted.length && got.every((line, i) => line === wanted[i]), `${what}: order or number of lines`);
}

/** Describes an image by reading it, contents from image and devices. */
export async function describeImage(image: Uint8Array, devices: readonly ByteSource[] = []): Promise<readonly string[]> {
  const source = new MemorySource(image);
  const { root } = await openErofs(source);
  return describe(root, async (node) => {
    const parts: Uint8Array[] = [];
    for await (const bytes of streamErofsFile(node, [source, ...devices])) parts.push(bytes);
    return digestOf(...parts);
  });
}

/** Content for the files of a tree: bytes of their own, on devices at multiples of a block, some of it in several runs, some of it holes. */
export class Contents {
  readonly #blockSize: Blocks;
  readonly #devices: Uint8Array[][] = [];
  readonly #sizes: number[];
  readonly #of = new Map<RegularNode, { readonly runs: readonly DeviceRun[]; readonly bytes: Uint8Array }>();

  constructor(blockSize: Blocks, devices: number) {
    this.#blockSize = blockSize;
    this.#devices = Array.from({ length: devices }, () => []);
    this.#sizes = this.#devices.map(() => 0);
  }

  /** Makes a file of the given pieces: [device, or undefined for a hole; whole blocks]; the last one is cut to `size`. */
  add(node: RegularNode, pieces: readonly (readonly [device: number | undefined, blocks: number])[]): RegularNode {
    const runs: DeviceRun[] = [];
    const bytes: Uint8Array[] = [];
    let left = node.size;
    for (const [device, blocks] of pieces) {
      const whole = blocks * this.#blockSize;
      const length = Math.min(left, whole);
      if (length === 0) break;
      left -= length;
      if (device === undefined) {
        bytes.push(new Uint8Array(length));
        runs.push({ length, device, offset: 0 });
        continue;
      }
      const offset = this.#sizes[device - 1] as number;
      const content = Uint8Array.from({ length: whole }, (_, i) => (i < length ? (i * 7 + offset / 512 + device) % 251 : 0));
      this.#devices[device - 1]?.push(content);
      this.#sizes[device - 1] = offset + whole;
      bytes.push(content.subarray(0, length));
      runs.push({ length, device, offset });
    }
    this.#of.set(node, { runs, bytes: concat(bytes) });
    return node;
  }

  readonly place: Place = (node) => {
    const known = this.#of.get(node);
    return known && mapRuns(known.runs, this.#blockSize);
  };

  readonly inside: Place = (node) => {
    const known = this.#of.get(node);
    if (!known) return undefined;
    const { bytes } = known;
    if (bytes.length % 2 === 0) return { kind: 'bytes', bytes };
    return {
      kind: 'stream',
      async *open() {
        for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
      },
    };
  };

  digestOf(node: RegularNode): Digest {
    return digestOf(this.#of.get(node)?.bytes ?? new Uint8Array(0));
  }

  get devices(): readonly { tag: string; size: number; bytes: Uint8Array }[] {
    return this.#devices.map((parts, i) => ({ tag: `${i}`.repeat(64), size: this.#sizes[i] as number, bytes: concat(parts) }));
  }

  get sources(): readonly ByteSource[] {
    return this.devices.map(({ bytes }) => new MemorySource(bytes));
  }
}

const xattrName = fc.oneof(
  fc.constantFrom('user.a', 'user.mime_type', 'trusted.overlay.opaque', 'security.selinux', 'system.posix_acl_access', 'system.posix_acl_default'),
  fc.string({ minLength: 1, maxLength: 20 }).filter((s) => !s.includes('\0')).map((s) => `user.${s}`),
);

const attributes: fc.Arbitrary<Attributes> = fc.record({
  mode: fc.nat({ max: 0o7777 }),
  uid: fc.oneof(fc.constantFrom(0, 1000, 65_536, 4_294_967_294), fc.nat()),
  gid: fc.oneof(fc.constantFrom(0, 1000, 65_536), fc.nat()),
  mtime: fc.record({ seconds: fc.oneof(fc.nat(), fc.constantFrom(-1, -86_400, 2 ** 33, 253_402_300_799)), nanoseconds: fc.oneof(fc.constant(0), fc.nat({ max: 999_999_999 })) }),
  xattrs: fc.oneof(
    { weight: 4, arbitrary: fc.constant(new Map<string, Uint8Array>()) },
    { weight: 2, arbitrary: fc.constantFrom(new Map([['security.selinux', Buffer.from('system_u:object_r:bin_t:s0\0')]])) },
    { weight: 1, arbitrary: fc.uniqueArray(fc.tuple(xattrName, fc.uint8Array({ maxLength: 40 })), { maxLength: 4, selector: ([name]) => name }).map((pairs) => new Map(pairs)) },
  ),
});

/** Names of all kinds: short, of 255 bytes, not UTF-8, beyond the BMP, in front of the dots. */
const name = fc.oneof(
  { weight: 5, arbitrary: fc.stringMatching(/^[a-z0-9_.+-]{1,12}$/) },
  { weight: 1, arbitrary: fc.constantFrom('\udcff\udcfe', 'caf\u00e9', '\u{1f600}', '\uff5e', '!', '.a', '.-', '..a', '...', '-', ' ', 'n'.repeat(255), '\u00fc'.repeat(127)) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 255 }).map((size) => 'x'.repeat(size)) },
).filter((s) => s !== '.' && s !== '..');

export interface Sample {
  readonly root: DirectoryNode;
  readonly contents: Contents;
  readonly blockSize: Blocks;
}

interface Item {
  readonly kind: number;
  readonly name: string;
  readonly parent: number;
  readonly attributes: Attributes;
  readonly size: number;
  readonly pieces: readonly (readonly [number | undefined, number])[];
  readonly target: string;
  readonly numbers: readonly [number, number];
}

const item: fc.Arbitrary<Item> = fc.record({
  kind: fc.nat({ max: 15 }),
  name,
  parent: fc.nat(),
  attributes,
  size: fc.nat({ max: 20_000 }),
  pieces: fc.array(fc.tuple(fc.constantFrom<number | undefined>(1, 1, 2, 3, undefined), fc.integer({ min: 1, max: 9 })), { minLength: 1, maxLength: 6 }),
  target: fc.oneof(fc.stringMatching(/^[a-z/.]{1,60}$/), fc.integer({ min: 1, max: 4095 }).map((size) => 't'.repeat(size))),
  numbers: fc.tuple(fc.nat({ max: 0xfff }), fc.nat({ max: 0xfffff })),
});

/** Random trees with everything that layers can hold. */
export function samples(maxItems: number): fc.Arbitrary<Sample> {
  return fc.record({ items: fc.array(item, { maxLength: maxItems }), top: attributes, blockSize: fc.constantFrom<Blocks>(512, 1024, 2048, 4096) }).map(({ items, top, blockSize }) => {
    const contents = new Contents(blockSize, 3);
    const root: DirectoryNode = { ...top, type: 'directory', children: new Map() };
    const directories = [root];
    const others: FileNode[] = [];
    for (const one of items) {
      const parent = directories[one.parent % directories.length] as DirectoryNode;
      if (parent.children.has(one.name)) continue;
      const node = nodeOf(one, others, contents);
      if (node.type === 'directory') directories.push(node);
      else others.push(node);
      parent.children.set(one.name, node);
    }
    return { root, contents, blockSize };
  });
}

const NO_EXTENTS: readonly Extent[] = [];

function nodeOf({ kind, attributes: a, size, pieces, target, numbers: [major, minor] }: Item, others: readonly FileNode[], contents: Contents): FileNode {
  if (kind < 4) return { ...a, type: 'directory', children: new Map() };
  if (kind === 4) return { ...a, type: 'symlink', target };
  if (kind === 5) return { ...a, type: 'char', major, minor };
  if (kind === 6) return { ...a, type: 'block', major, minor };
  if (kind === 7) return { ...a, type: 'fifo' };
  if (kind === 8 && others.length > 0) return others[size % others.length] as FileNode;
  if (kind === 9) return { ...a, type: 'file', size: 0, extents: NO_EXTENTS };
  // The last piece takes what is left.
  const node: RegularNode = { ...a, type: 'file', size, extents: NO_EXTENTS };
  return contents.add(node, [...pieces, [1, 40]]);
}
