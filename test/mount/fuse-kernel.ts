import assert from 'node:assert/strict';
import { Counters } from '../../src/mount/fuse/counters.ts';
import { DeviceNodes } from '../../src/mount/fuse/devices.ts';
import { LocalContent, type ReadAt } from '../../src/mount/fuse/local.ts';
import { Server, type MissedRead } from '../../src/mount/fuse/server.ts';
import { TreeNodes } from '../../src/mount/fuse/tree.ts';
import { OP } from '../../src/mount/fuse/wire.ts';
import type { Served, ServedDevice } from '../../src/mount/types.ts';
import { ErofsView } from '../../src/erofs/view.ts';

export interface DirectoryEntry {
  readonly name: Buffer;
  readonly ino: number;
  readonly off: number;
  /** S_IFMT bits shifted down by 12. */
  readonly type: number;
  /** With readdirplus: node id (0 when nothing is said) and attributes. */
  readonly nodeid?: number;
  readonly attr?: Buffer;
}

/** Asks a server what a kernel would ask, without a mount. */
export class FakeKernel {
  readonly server: Server;
  readonly counters = new Counters();
  readonly misses: MissedRead[] = [];
  readonly interrupts: bigint[] = [];
  readonly problems: unknown[] = [];
  #unique = 2n;

  private constructor(server: (kernel: FakeKernel) => Server) {
    this.server = server(this);
  }

  static async of(served: Served, readAt: ReadAt): Promise<FakeKernel> {
    const nodes = served.shape === 'tree' ? new TreeNodes(await ErofsView.open(new Uint8Array(served.metadata))) : new DeviceNodes(served);
    return new FakeKernel((kernel) => new Server(nodes, new LocalContent(served, readAt), kernel.counters, {
      miss: (read) => kernel.misses.push(read),
      interrupt: (unique) => kernel.interrupts.push(unique),
      problem: (error) => kernel.problems.push(error),
    }));
  }

  /** The payload, a negative errno, or undefined without a reply. */
  call(opcode: number, node: number, body: Uint8Array = Buffer.alloc(0), { uid = 0, pid = 1, unique = (this.#unique += 2n) }: { uid?: number; pid?: number; unique?: bigint } = {}): Buffer | number | undefined {
    const { request } = this.server;
    const length = 40 + body.length;
    request.fill(0xee, 0, length + 64);
    request.writeUInt32LE(length, 0);
    request.writeUInt32LE(opcode, 4);
    request.writeBigUInt64LE(unique, 8);
    request.writeBigUInt64LE(BigInt(node), 16);
    request.writeUInt32LE(uid, 24);
    request.writeUInt32LE(0, 28);
    request.writeUInt32LE(pid, 32);
    request.writeUInt32LE(0, 36);
    request.set(body, 40);
    const size = this.server.handle(length);
    if (size === 0) return undefined;
    const reply = this.server.reply.bytes.subarray(0, size);
    assert.ok(size >= 16 && reply.readUInt32LE(0) === size, `a reply says its size, ${size}`);
    assert.equal(reply.readBigUInt64LE(8), unique);
    const error = reply.readInt32LE(4);
    if (error !== 0) assert.equal(size, 16, 'an error has no payload');
    return error === 0 ? Buffer.from(reply.subarray(16)) : error;
  }

  /** An answer that has to be there. */
  ask(opcode: number, node: number, body?: Uint8Array): Buffer {
    const got = this.call(opcode, node, body);
    assert.ok(Buffer.isBuffer(got), `operation ${opcode} on node ${node}: ${got}`);
    return got;
  }

  lookup(parent: number, name: Uint8Array | string): Buffer {
    return this.ask(OP.lookup, parent, Buffer.concat([Buffer.from(name), Buffer.alloc(1)]));
  }

  read(node: number, offset: number, size: number): Buffer | number | undefined {
    return this.call(OP.read, node, readBody(offset, size));
  }

  getxattr(node: number, name: Uint8Array | string, size: number): Buffer | number | undefined {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(size);
    return this.call(OP.getxattr, node, Buffer.concat([head, Buffer.from(name), Buffer.alloc(1)]));
  }

  listxattr(node: number, size: number, uid = 0): Buffer | number | undefined {
    const head = Buffer.alloc(8);
    head.writeUInt32LE(size);
    return this.call(OP.listxattr, node, head, { uid });
  }

  /** One reply of readdir or readdirplus. */
  list(node: number, plus: boolean, offset = 0, size = 4096): DirectoryEntry[] {
    const bytes = this.ask(plus ? OP.readdirplus : OP.readdir, node, readBody(offset, size));
    assert.ok(bytes.length <= size);
    const found: DirectoryEntry[] = [];
    for (let at = 0; at < bytes.length; ) {
      const dirent = at + (plus ? 128 : 0);
      const length = bytes.readUInt32LE(dirent + 16);
      const end = dirent + 24 + length;
      assert.ok(length > 0 && end <= bytes.length);
      found.push({
        name: bytes.subarray(dirent + 24, end),
        ino: Number(bytes.readBigUInt64LE(dirent)),
        off: Number(bytes.readBigUInt64LE(dirent + 8)),
        type: bytes.readUInt32LE(dirent + 20),
        ...(plus && { nodeid: Number(bytes.readBigUInt64LE(at)), attr: bytes.subarray(at + 40, at + 128) }),
      });
      at = end + ((8 - ((end - at) % 8)) % 8);
      assert.ok(bytes.subarray(end, at).every((byte) => byte === 0), 'padding is zeros');
    }
    return found;
  }

  /** The whole directory. */
  listAll(node: number, plus: boolean, size?: number): DirectoryEntry[] {
    const found: DirectoryEntry[] = [];
    for (;;) {
      const more = this.list(node, plus, found.at(-1)?.off ?? 0, size);
      if (more.length === 0) return found;
      found.push(...more);
      assert.ok(found.length < 1e6);
    }
  }
}

export function readBody(offset: number, size: number): Buffer {
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(size, 16);
  return body;
}

export function sharedCopy(bytes: Uint8Array): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(bytes.length);
  new Uint8Array(memory).set(bytes);
  return memory;
}

/** A device whose pages are all here or all absent; `fd` is left to the caller. */
export function deviceOf(size: number, here: boolean, fd = -1): ServedDevice {
  const rounded = Math.ceil(size / 4096) * 4096;
  const present = new SharedArrayBuffer(Math.ceil(rounded / 4096 / 8));
  if (here) new Uint8Array(present).fill(0xff);
  return { size: rounded, fd, present };
}

/** Reads devices that are in memory: `fd` is their number. */
export function readFrom(devices: readonly Uint8Array[]): ReadAt {
  return (fd, target, offset) => {
    const device = devices[fd];
    if (!device) return -9;
    // The file behind a device is as long as the device.
    const padded = Math.ceil(device.length / 4096) * 4096;
    const length = Math.max(Math.min(target.length, padded - offset), 0);
    target.fill(0, 0, length);
    target.set(device.subarray(offset, offset + length));
    return length;
  };
}
