import { release } from 'node:os';
import type { DeviceRun } from '../../erofs/place.ts';
import { ERRNO } from '../native.ts';
import type { Counters } from './counters.ts';
import { decodeInit, knowsNoOpendir, MAX_READ, putInit, REQUEST_BUFFER } from './init.ts';
import type { LocalContent } from './local.ts';
import { PAYLOAD, Reply, type Nodes } from './nodes.ts';
import { FOPEN, GETXATTR_IN, GETXATTR_IN_SIZE, getU64, IN_HEADER, IN_HEADER_SIZE, INIT_FLAG, INTERRUPT_IN, INTERRUPT_IN_SIZE, OP, OPEN_OUT, OPEN_OUT_SIZE, OUT_HEADER_SIZE, putOutHeader, READ_IN, READ_IN_SIZE, setU64 } from './wire.ts';

/** A read that needs bytes which are not here. */
export interface MissedRead {
  /** Number of the request, for the reply. */
  readonly unique: bigint;
  readonly node: number;
  /** Of the file. */
  readonly offset: number;
  /** Thread that waits for it, as this process sees it; 0 when it does not. */
  readonly pid: number;
  /** Everything that the reply consists of, in order. */
  readonly runs: readonly DeviceRun[];
}

/** Where a server hands on what it does not do itself. */
export interface ServerHooks {
  miss(read: MissedRead): void;
  interrupt(unique: bigint): void;
  /** A request that could not be answered properly, because of bad metadata or a mistake of ours. */
  problem(error: unknown, opcode: number, node: number): void;
}

/** A larger read than the kernel agreed on is refused beyond this. */
const MAX_REPLY = 16 << 20;
/** Answers with nothing in them are 0 bytes long; this is none at all. */
const NO_REPLY = -(2 ** 31);

const READ_ONLY: ReadonlySet<number> = new Set([
  OP.setattr, OP.symlink, OP.mknod, OP.mkdir, OP.unlink, OP.rmdir, OP.rename, OP.link, OP.write, OP.setxattr, OP.removexattr, OP.create, OP.fallocate, OP.rename2,
  OP.copyFileRange, OP.tmpfile,
]);

/** Answers requests, one at a time, into `reply`. Does no input or output but reading local content. */
export class Server {
  /** One request is read into here. */
  readonly request = Buffer.alloc(REQUEST_BUFFER);
  readonly reply = new Reply(MAX_READ);
  readonly #in: DataView;
  readonly #nodes: Nodes;
  readonly #local: LocalContent;
  readonly #hooks: ServerHooks;
  readonly #counters: Counters;
  /** A server that takes over sees no init. */
  #noOpendir = knowsNoOpendir(release());

  constructor(nodes: Nodes, local: LocalContent, counters: Counters, hooks: ServerHooks) {
    this.#in = new DataView(this.request.buffer, this.request.byteOffset, this.request.length);
    this.#nodes = nodes;
    this.#local = local;
    this.#counters = counters;
    this.#hooks = hooks;
  }

  /** Handles the request of `length` bytes and returns how many bytes of `reply` are the answer; 0 for none, or none yet. */
  handle(length: number): number {
    const opcode = this.#in.getUint32(IN_HEADER.opcode, true);
    const node = getU64(this.#in, IN_HEADER.nodeid);
    let size: number;
    this.#counters.request(opcode);
    try {
      size = length < IN_HEADER_SIZE ? NO_REPLY : this.#answer(opcode, node, length);
    } catch (error) {
      size = -ERRNO.EIO;
      this.#counters.add('errors', 1);
      this.#hooks.problem(error, opcode, node);
    }
    return size === NO_REPLY ? 0 : this.#finish(size);
  }

  /** Makes the answer to the present request an error; for one that the kernel would not take. */
  fail(errno: number): number {
    return this.#finish(-errno);
  }

  #finish(size: number): number {
    const payload = Math.max(size, 0);
    putOutHeader(this.reply.view, payload, Math.min(size, 0), this.#in);
    return OUT_HEADER_SIZE + payload;
  }

  #answer(opcode: number, node: number, length: number): number {
    const nodes = this.#nodes;
    const { reply } = this;
    switch (opcode) {
      case OP.lookup:
        return nodes.lookup(node, this.#name(IN_HEADER_SIZE, length), reply);
      case OP.getattr:
        return nodes.getattr(node, reply);
      case OP.readlink:
        return nodes.readlink(node, reply);
      case OP.read:
        return this.#read(node, length);
      case OP.readdir:
      case OP.readdirplus:
        return this.#readdir(node, opcode === OP.readdirplus, length);
      case OP.open:
        return nodes.open(node, reply);
      case OP.opendir:
        return this.#noOpendir ? -ERRNO.ENOSYS : this.#opendir();
      case OP.release:
      case OP.releasedir:
      case OP.destroy:
        return 0;
      case OP.forget:
      case OP.batchForget:
      case OP.notifyReply:
        return NO_REPLY;
      case OP.interrupt:
        if (length >= IN_HEADER_SIZE + INTERRUPT_IN_SIZE) this.#hooks.interrupt(this.#in.getBigUint64(IN_HEADER_SIZE + INTERRUPT_IN.unique, true));
        return NO_REPLY;
      case OP.getxattr:
        if (length < IN_HEADER_SIZE + GETXATTR_IN_SIZE) return -ERRNO.EINVAL;
        return nodes.getxattr(node, this.#name(IN_HEADER_SIZE + GETXATTR_IN_SIZE, length), this.#in.getUint32(IN_HEADER_SIZE + GETXATTR_IN.size, true), reply);
      case OP.listxattr:
        if (length < IN_HEADER_SIZE + GETXATTR_IN_SIZE) return -ERRNO.EINVAL;
        return nodes.listxattr(node, this.#in.getUint32(IN_HEADER_SIZE + GETXATTR_IN.size, true), this.#in.getUint32(IN_HEADER.uid, true) === 0, reply);
      case OP.statfs:
        return nodes.statfs(reply);
      case OP.init:
        return this.#init(length);
      default:
        // What the kernel is told not to be there, it does not ask for again: flush, access, lseek, statx, poll and more.
        return READ_ONLY.has(opcode) ? -ERRNO.EROFS : -ERRNO.ENOSYS;
    }
  }

  #init(length: number): number {
    const request = decodeInit(this.#in, IN_HEADER_SIZE, length - IN_HEADER_SIZE);
    if (!request) return -ERRNO.EINVAL;
    this.#noOpendir = (request.flags & INIT_FLAG.noOpendir) !== 0;
    return putInit(this.reply.view, PAYLOAD, request, this.#nodes.hasAcls()) ?? -ERRNO.EPROTO;
  }

  #opendir(): number {
    setU64(this.reply.view, PAYLOAD + OPEN_OUT.fh, 0);
    this.reply.view.setUint32(PAYLOAD + OPEN_OUT.openFlags, FOPEN.keepCache | FOPEN.cacheDir, true);
    this.reply.view.setInt32(PAYLOAD + OPEN_OUT.backingId, 0, true);
    return OPEN_OUT_SIZE;
  }

  #readdir(node: number, plus: boolean, length: number): number {
    if (length < IN_HEADER_SIZE + READ_IN_SIZE) return -ERRNO.EINVAL;
    const offset = getU64(this.#in, IN_HEADER_SIZE + READ_IN.offset);
    const size = this.#in.getUint32(IN_HEADER_SIZE + READ_IN.size, true);
    // Whoever seeks to a place that we never named is at the end.
    return Number.isSafeInteger(offset) ? this.#nodes.readdir(node, offset, size, plus, this.reply) : 0;
  }

  #read(node: number, length: number): number {
    if (length < IN_HEADER_SIZE + READ_IN_SIZE) return -ERRNO.EINVAL;
    const offset = getU64(this.#in, IN_HEADER_SIZE + READ_IN.offset);
    const size = this.#in.getUint32(IN_HEADER_SIZE + READ_IN.size, true);
    if (!Number.isSafeInteger(offset + size) || size > MAX_REPLY) return -ERRNO.EINVAL;
    const runs = this.#nodes.content(node, offset, size);
    this.reply.grow(size);
    let at = PAYLOAD;
    for (const run of runs) {
      if (!this.#local.read(run, this.reply.bytes.subarray(at, at + run.length))) {
        this.#counters.add('misses', 1);
        this.#hooks.miss({ unique: this.#in.getBigUint64(IN_HEADER.unique, true), node, offset, pid: this.#in.getUint32(IN_HEADER.pid, true), runs });
        return NO_REPLY;
      }
      at += run.length;
    }
    this.#counters.add('localReads', 1);
    this.#counters.add('localBytes', at - PAYLOAD);
    return at - PAYLOAD;
  }

  /** Bytes up to the request's end, without the NUL. */
  #name(start: number, length: number): Uint8Array {
    const end = this.request.indexOf(0, start);
    return this.request.subarray(start, end >= 0 && end < length ? end : length);
  }
}
