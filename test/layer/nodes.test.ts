import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Attributes, Chunk, Extent } from '../../src/core/types.ts';
import { NodeMaker, NO_EXTENTS, NO_XATTRS, ownName, withChildren } from '../../src/layer/nodes.ts';

const attributes: Attributes = { mode: 0o640, uid: 7, gid: 8, mtime: { seconds: 5, nanoseconds: 6 }, xattrs: new Map([['user.a', Buffer.from('x')]]) };
const chunk: Chunk = { blob: 0, offset: 10, length: 20, size: 100 };

describe('NodeMaker', () => {
  it('makes nodes of every type with the attributes given', () => {
    const make = new NodeMaker();
    const names = { userName: 'u', groupName: '' };
    assert.deepEqual(make.directory(attributes), { type: 'directory', ...attributes, children: new Map() });
    assert.deepEqual(make.directory({ ...attributes, ...names }), { type: 'directory', ...attributes, children: new Map(), ...names });
    assert.deepEqual(make.symlink(attributes, 'to'), { type: 'symlink', ...attributes, target: 'to' });
    assert.deepEqual(make.device(attributes, 'char', 1, 3), { type: 'char', ...attributes, major: 1, minor: 3 });
    assert.deepEqual(make.fifo({ ...attributes, ...names }), { type: 'fifo', ...attributes, ...names });
    assert.deepEqual(make.file(attributes, 0, []), { type: 'file', ...attributes, size: 0, extents: [] });
    assert.deepEqual(make.file({ ...attributes, ...names }, 3, [], 'sha256:1'), { type: 'file', ...attributes, size: 3, extents: [], ...names, digest: 'sha256:1' });
  });

  it('gives back the extents of a file, whether they are kept or made again', () => {
    const make = new NodeMaker();
    const first: Extent = { fileOffset: 0, length: 60, chunk, chunkOffset: 40 };
    const second: Extent = { fileOffset: 60, length: 5, chunk, chunkOffset: 0 };
    for (const [size, extents] of [[60, [first]], [65, [first, second]], [61, [first]], [5, [second]], [0, []]] as const) {
      const file = make.file(attributes, size, extents, 'sha256:2');
      assert.deepEqual(file.extents, extents);
      assert.deepEqual([file.type, file.size, file.mode, file.uid, file.gid, file.digest], ['file', size, 0o640, 7, 8, 'sha256:2']);
      assert.deepEqual([file.mtime, file.xattrs], [attributes.mtime, attributes.xattrs]);
      assert.equal(file.extents[0]?.chunk, extents[0]?.chunk);
    }
    assert.equal(make.file(attributes, 0, []).extents, NO_EXTENTS);
  });

  it('keeps equal times and attributes once', () => {
    const make = new NodeMaker();
    const one = make.fifo({ ...attributes, mtime: { seconds: -5, nanoseconds: 0 }, xattrs: new Map([['user.a', Buffer.from('x')], ['user.b', Buffer.from('y')]]) });
    const two = make.fifo({ ...attributes, mtime: { seconds: -5, nanoseconds: 0 }, xattrs: new Map([['user.a', Buffer.from('x')], ['user.b', Buffer.from('y')]]) });
    assert.equal(one.mtime, two.mtime);
    assert.equal(one.xattrs, two.xattrs);
    assert.equal(make.fifo({ ...attributes, xattrs: new Map() }).xattrs, NO_XATTRS);
    // Another order is another set: archives are written in it.
    const turned = make.fifo({ ...attributes, xattrs: new Map([['user.b', Buffer.from('y')], ['user.a', Buffer.from('x')]]) });
    assert.deepEqual([...turned.xattrs.keys()], ['user.b', 'user.a']);
  });

  it('never takes one time or attribute for another', () => {
    const make = new NodeMaker();
    const time = fc.record({ seconds: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.maxSafeInteger()), nanoseconds: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 999_999_999 })) });
    const xattrs = fc.array(fc.tuple(fc.constantFrom('user.a', 'user.b', 'user.c'), fc.uint8Array({ maxLength: 2, max: 2 })), { maxLength: 3 }).map((pairs) => new Map(pairs));
    fc.assert(fc.property(time, xattrs, (mtime, marks) => {
      const wanted = [mtime.seconds, mtime.nanoseconds, [...marks].map(([name, value]) => [name, [...value]])];
      const node = make.fifo({ ...attributes, mtime, xattrs: marks });
      assert.deepEqual([node.mtime.seconds, node.mtime.nanoseconds, [...node.xattrs].map(([name, value]) => [name, [...value]])], wanted);
    }), { numRuns: 5000 });
    for (let seconds = 0; seconds < 50_000; seconds += 1) assert.equal(make.time({ seconds, nanoseconds: 1 }).seconds, seconds);
  });
});

it('withChildren copies all that a directory says', () => {
  const children = new Map([['x', new NodeMaker().fifo(attributes)]]);
  const whole = { type: 'directory', ...attributes, userName: 'u', groupName: 'g', implied: true, children: new Map() } as const;
  assert.deepEqual(withChildren(whole, children), { ...whole, children });
  assert.deepEqual(withChildren({ type: 'directory', ...attributes, children: new Map() }, children), { type: 'directory', ...attributes, children });
  assert.deepEqual(withChildren(whole, children, NO_XATTRS), { ...whole, children, xattrs: NO_XATTRS });
});

it('ownName gives an equal name, whatever is in it', () => {
  fc.assert(fc.property(fc.oneof(fc.string({ maxLength: 400 }), fc.string({ unit: 'binary', maxLength: 300 })), (path) => {
    assert.equal(ownName(path), path);
  }));
  for (const name of ['\udcff'.repeat(20), 'caf\u00e9'.repeat(60), '\u{1f600}'.repeat(60), 'x'.repeat(255), 'x'.repeat(256), 'x'.repeat(257), '']) assert.equal(ownName(name), name);
});
