import assert from 'node:assert/strict';
import { it } from 'node:test';
import { decodeInit, knowsNoOpendir, putInit, REQUEST_BUFFER } from '../../src/mount/fuse/init.ts';
import * as wire from '../../src/mount/fuse/wire.ts';

// Offsets of the fields in the kernel's header (include/uapi/linux/fuse.h), counted by hand.
const GOLDEN = {
  IN_HEADER: { len: 0, opcode: 4, unique: 8, nodeid: 16, uid: 24, gid: 28, pid: 32, totalExtlen: 36 },
  OUT_HEADER: { len: 0, error: 4, unique: 8 },
  ATTR: { ino: 0, size: 8, blocks: 16, atime: 24, mtime: 32, ctime: 40, atimensec: 48, mtimensec: 52, ctimensec: 56, mode: 60, nlink: 64, uid: 68, gid: 72, rdev: 76, blksize: 80, flags: 84 },
  ENTRY_OUT: { nodeid: 0, generation: 8, entryValid: 16, attrValid: 24, entryValidNsec: 32, attrValidNsec: 36, attr: 40 },
  ATTR_OUT: { attrValid: 0, attrValidNsec: 8, attr: 16 },
  INIT_IN: { major: 0, minor: 4, maxReadahead: 8, flags: 12, flags2: 16 },
  INIT_OUT: { major: 0, minor: 4, maxReadahead: 8, flags: 12, maxBackground: 16, congestionThreshold: 18, maxWrite: 20, timeGran: 24, maxPages: 28, mapAlignment: 30, flags2: 32, maxStackDepth: 36, requestTimeout: 40 },
  OPEN_OUT: { fh: 0, openFlags: 8, backingId: 12 },
  READ_IN: { fh: 0, offset: 8, size: 16, readFlags: 20, lockOwner: 24, flags: 32 },
  DIRENT: { ino: 0, off: 8, namelen: 16, type: 20 },
  GETXATTR_IN: { size: 0 },
  GETXATTR_OUT: { size: 0 },
  STATFS_OUT: { blocks: 0, bfree: 8, bavail: 16, files: 24, ffree: 32, bsize: 40, namelen: 44, frsize: 48 },
  INTERRUPT_IN: { unique: 0 },
  RETRIEVE_OUT: { notifyUnique: 0, nodeid: 8, offset: 16, size: 24 },
} as const;
const SIZES = { IN_HEADER: 40, OUT_HEADER: 16, ATTR: 88, ENTRY_OUT: 128, ATTR_OUT: 104, INIT_IN: 64, INIT_OUT: 64, OPEN_OUT: 16, READ_IN: 40, DIRENT: 24, GETXATTR_IN: 8, GETXATTR_OUT: 8, STATFS_OUT: 80, INTERRUPT_IN: 8, RETRIEVE_OUT: 32 } as const;

it('has its fields where the kernel has them', () => {
  for (const [name, fields] of Object.entries(GOLDEN)) {
    const struct: Readonly<Record<string, number>> = wire[name as keyof typeof GOLDEN];
    for (const [field, offset] of Object.entries(fields)) assert.equal(struct[field], offset, `${name}.${field}`);
    assert.equal(wire[`${name as keyof typeof GOLDEN}_SIZE`], SIZES[name as keyof typeof SIZES], name);
  }
  assert.equal(wire.DIRENTPLUS_SIZE, 152);
  assert.deepEqual([wire.OP.lookup, wire.OP.read, wire.OP.init, wire.OP.readdirplus, wire.OP.statx], [1, 15, 26, 44, 52]);
  assert.equal(wire.opName(15), 'read');
  assert.equal(wire.opName(4096), 'op 4096');
});

it('an entry is what the kernel would copy out of it', () => {
  const bytes = Buffer.alloc(200, 0xff);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  wire.putEntry(view, 8, 2 ** 40 + 5, { ino: 77, size: 2 ** 52 + 1, blocks: 9, seconds: -86_400, nanoseconds: 5, mode: 0o104755, nlink: 3, uid: 4_294_967_294, gid: 6, rdev: 0x8_0103, blksize: 4096 });
  const at = (offset: number): bigint => bytes.readBigUInt64LE(8 + offset);
  assert.deepEqual([at(0), at(8), at(16), at(24), at(32)], [2n ** 40n + 5n, 0n, 2n ** 30n, 2n ** 30n, 0n]);
  assert.deepEqual([at(40), at(48), at(56)], [77n, 2n ** 52n + 1n, 9n]);
  for (const time of [64, 72, 80]) assert.equal(bytes.readBigInt64LE(8 + time), -86_400n);
  assert.deepEqual(Array.from({ length: 10 }, (_, i) => bytes.readUInt32LE(8 + 88 + i * 4)), [5, 5, 5, 0o104755, 3, 4_294_967_294, 6, 0x8_0103, 4096, 0]);
  assert.ok(bytes.subarray(0, 8).every((byte) => byte === 0xff) && bytes.subarray(136).every((byte) => byte === 0xff), 'nothing else is touched');
  wire.putEntry(view, 8, 0, undefined);
  assert.ok(bytes.subarray(8 + 40, 136).every((byte) => byte === 0), 'a negative entry has no attributes');
  assert.equal(at(16), 2n ** 30n, 'and may be kept');
});

it('replies echo the number of the request, with all its bits', () => {
  const request = new DataView(new ArrayBuffer(40));
  request.setBigUint64(8, 2n ** 63n + 2n ** 53n + 6n, true);
  const reply = Buffer.alloc(16);
  wire.putOutHeader(new DataView(reply.buffer, reply.byteOffset), 100, -5, request);
  assert.deepEqual([reply.readUInt32LE(0), reply.readInt32LE(4), reply.readBigUInt64LE(8)], [116, -5, 2n ** 63n + 2n ** 53n + 6n]);
  assert.deepEqual(Buffer.from(wire.encodeOutHeader(2n ** 63n + 2n ** 53n + 6n, 100, -5)), reply);
  assert.equal(Buffer.from(wire.encodeResend()).toString('hex'), '10000000070000000000000000000000');
  assert.equal(wire.encodeRetrieve().length, 48);
});

/** What Linux 6.18 sends, with the body from its first byte on. */
const LINUX_6_18 = { major: 7, minor: 45, flags: 0x73ff_fffb, flags2: 0x5fd };

function negotiate(request: { major: number; minor: number; flags: number; flags2?: number }, acls = false): Buffer | undefined {
  const body = Buffer.alloc(64);
  body.writeUInt32LE(request.major, 0);
  body.writeUInt32LE(request.minor, 4);
  body.writeUInt32LE(131_072, 8);
  body.writeUInt32LE(request.flags >>> 0, 12);
  body.writeUInt32LE(request.flags2 ?? 0, 16);
  const decoded = decodeInit(new DataView(body.buffer, body.byteOffset), 0, request.flags2 === undefined ? 16 : 64);
  assert.ok(decoded);
  const out = Buffer.alloc(64, 0xff);
  const size = putInit(new DataView(out.buffer, out.byteOffset), 0, decoded, acls);
  return size === undefined ? undefined : out.subarray(0, size);
}

it('agrees with a new kernel on what makes it fast, and on no time limit', () => {
  const reply = negotiate(LINUX_6_18) as Buffer;
  assert.deepEqual([reply.length, reply.readUInt32LE(0), reply.readUInt32LE(4)], [64, 7, 45]);
  assert.equal(reply.readUInt32LE(12), 0x43e6_a031);
  assert.deepEqual([reply.readUInt16LE(16), reply.readUInt16LE(18)], [256, 192]);
  assert.equal(reply.readUInt32LE(24), 1, 'nanoseconds');
  assert.equal(reply.readUInt16LE(28), 256, 'reads of 1 MiB');
  assert.equal(reply.readUInt32LE(32), 1 << 7, 'requests can be sent again');
  assert.equal(reply.readUInt16LE(40), 0);
  assert.ok(reply.readUInt32LE(8) >= 131_072, 'no limit of ours to readahead');
  assert.ok(REQUEST_BUFFER >= 8192 && REQUEST_BUFFER >= 80 + reply.readUInt32LE(20), 'the kernel wants that much room');
  assert.equal((negotiate(LINUX_6_18, true) as Buffer).readUInt32LE(12), 0x43f6_a031, 'ACLs when there are some');
});

it('agrees with older kernels on what they have', () => {
  const old = negotiate({ major: 7, minor: 31, flags: 0x007f_fffb }) as Buffer;
  assert.equal(old.readUInt32LE(4), 31);
  assert.equal(old.readUInt32LE(12), 0x0066_a031);
  assert.equal(old.readUInt32LE(32), 0);
  assert.equal(negotiate({ major: 7, minor: 22, flags: 0 }), undefined);
  assert.equal(negotiate({ major: 6, minor: 1, flags: 0 }), undefined);
  assert.deepEqual([...(negotiate({ major: 8, minor: 0, flags: 0 }) as Buffer).subarray(0, 8)], [7, 0, 0, 0, 0, 0, 0, 0], 'a newer one asks again');
  assert.equal(decodeInit(new DataView(new ArrayBuffer(64)), 0, 12), undefined);
});

it('knows which kernels take ENOSYS for opendir', () => {
  assert.deepEqual(['6.18.44-fc', '5.1.0', '5.0.21', '4.19.0-22-amd64', '10.0', ''].map(knowsNoOpendir), [true, true, false, false, true, false]);
});
