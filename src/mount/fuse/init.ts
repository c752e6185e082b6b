import { INIT_FLAG, INIT_FLAG2, INIT_IN, INIT_IN_MIN, INIT_OUT, INIT_OUT_SIZE, MIN_MINOR, VERSION } from './wire.ts';

/** What the kernel says of itself when a mount begins. */
export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly flags: number;
  /** 0 from kernels before Linux 5.17. */
  readonly flags2: number;
}

/** Bytes of the largest read; the kernel sends no larger ones as long as `MAX_PAGES` pages have 4096 bytes. */
export const MAX_READ = 1 << 20;
const MAX_PAGES = 256;
/** Requests (readahead) that the kernel keeps waiting for us at a time; each may be a fetch over the network. */
const MAX_BACKGROUND = 256;
/** From here on it throttles readahead. */
const CONGESTION = 192;
/** Bytes. Nobody writes, but the kernel wants buffers that large for each request. */
const MAX_WRITE = 16_384;
/** Bytes of a buffer for requests. */
export const REQUEST_BUFFER = 1 << 17;
/** Bytes: no limit of ours. What counts is the backing device's read_ahead_kb. */
const MAX_READAHEAD = 64 << 20;

/** Opening needs no message (files, directories), names and attributes come together, symlinks are cached, readahead is not waited for. */
const WANTED = INIT_FLAG.asyncRead | INIT_FLAG.exportSupport | INIT_FLAG.bigWrites | INIT_FLAG.readdirplus | INIT_FLAG.asyncDio | INIT_FLAG.noOpen | INIT_FLAG.parallelDirops
  | INIT_FLAG.abortError | INIT_FLAG.maxPages | INIT_FLAG.cacheSymlinks | INIT_FLAG.noOpendir | INIT_FLAG.explicitInval | INIT_FLAG.initExt;
const WANTED2 = INIT_FLAG2.hasResend;

/** `length` bytes of an init request at `at`; undefined when they are too few. */
export function decodeInit(view: DataView, at: number, length: number): InitRequest | undefined {
  if (length < INIT_IN_MIN) return undefined;
  return {
    major: view.getUint32(at + INIT_IN.major, true),
    minor: view.getUint32(at + INIT_IN.minor, true),
    flags: view.getUint32(at + INIT_IN.flags, true),
    flags2: length >= INIT_IN.unused ? view.getUint32(at + INIT_IN.flags2, true) : 0,
  };
}

/**
 * Writes the answer and returns its size; undefined for a kernel that is too old. `acls` lets the kernel ask for POSIX ACLs
 * and go by them. A request timeout is never agreed on: a slow fetch would end the mount.
 */
export function putInit(view: DataView, at: number, request: InitRequest, acls: boolean): number | undefined {
  const { major, minor, flags, flags2 } = request;
  for (let word = 0; word < INIT_OUT_SIZE; word += 4) view.setUint32(at + word, 0, true);
  view.setUint32(at + INIT_OUT.major, VERSION.major, true);
  // A newer major version is told ours, and asks again.
  if (major > VERSION.major) return INIT_OUT_SIZE;
  if (major < VERSION.major || minor < MIN_MINOR) return undefined;
  view.setUint32(at + INIT_OUT.minor, Math.min(minor, VERSION.minor), true);
  view.setUint32(at + INIT_OUT.maxReadahead, MAX_READAHEAD, true);
  view.setUint32(at + INIT_OUT.flags, (flags & (WANTED | (acls ? INIT_FLAG.posixAcl : 0))) >>> 0, true);
  view.setUint32(at + INIT_OUT.flags2, (flags2 & WANTED2) >>> 0, true);
  view.setUint16(at + INIT_OUT.maxBackground, MAX_BACKGROUND, true);
  view.setUint16(at + INIT_OUT.congestionThreshold, CONGESTION, true);
  view.setUint32(at + INIT_OUT.maxWrite, MAX_WRITE, true);
  view.setUint32(at + INIT_OUT.timeGran, 1, true);
  view.setUint16(at + INIT_OUT.maxPages, MAX_PAGES, true);
  return INIT_OUT_SIZE;
}

/** Whether the kernel takes ENOSYS for an answer to opendir (Linux 5.1). A server that follows another one has seen no init. */
export function knowsNoOpendir(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return major > 5 || (major === 5 && minor >= 1);
}
