import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, statfsSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { LazypullError, wrapError } from '../../core/errors.ts';
import { runQuietly } from '../host/kernel-calls.ts';
import { mountsFrom } from '../host/mount-table.ts';
import { bootId, ownMark } from '../host/processes.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'lazypull-run-';

const processMark = z.strictObject({ pid: z.int().positive(), started: z.number() });

/** What has to be known to clean up after a run whose process is gone. */
const runRecord = z.strictObject({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{12}$/),
  boot: z.string(),
  /** Process numbers mean something in this namespace only. */
  pidNamespace: z.string(),
  owner: processMark,
  image: z.string(),
  /** Path of the container runtime; absent when there is none. */
  runtime: z.string().optional(),
  /** What was started: the runtime, or what makes the namespaces. */
  launched: processMark.optional(),
});

export type RunRecord = z.infer<typeof runRecord>;

/** File systems (statfs(2) `f_type`) that cannot hold the writable part of an overlay, or only badly. */
const UNFIT = new Map([[0x794c7630, 'overlay'], [0x6969, 'nfs'], [0x65735546, 'fuse'], [0x01021997, '9p'], [0x517b, 'smb'], [0xff534d42, 'cifs'], [0xf15f, 'ecryptfs'], [0x786f4256, 'vboxsf'], [0x00c36400, 'ceph'], [0x4d44, 'msdos'], [0x5346544e, 'ntfs']]);

/** The folder of one run, with everything that belongs to it. Nothing in it outlives the run. */
export class Scratch {
  readonly path: string;
  readonly id: string;

  constructor(path: string) {
    this.path = path;
    this.id = path.slice(path.lastIndexOf(PREFIX) + PREFIX.length);
  }

  /** Made where temporary files may be large: $TMPDIR, or /var/tmp. */
  static create(env: Environment, image: string): Scratch {
    const base = scratchFolders(env)[0] as string;
    const id = randomBytes(6).toString('hex');
    const scratch = new Scratch(join(base, `${PREFIX}${id}`));
    // Under another name until it says whose it is.
    const draft = join(base, `.${PREFIX}${id}`);
    try {
      mkdirSync(draft, { mode: 0o700 });
      const record: RunRecord = { version: 1, id, boot: bootId(), pidNamespace: pidNamespace(), owner: ownMark(), image };
      writeFileSync(join(draft, 'run.json'), JSON.stringify(record), { mode: 0o600 });
      for (const name of ['lower', 'writable', 'bundle', 'bundle/rootfs', 'files', 'runtime']) mkdirSync(join(draft, name), { mode: 0o700 });
      // Programs of any user walk through these; who may come here at all is decided above.
      for (const name of ['files', 'bundle', 'bundle/rootfs']) chmodSync(join(draft, name), 0o755);
      renameSync(draft, scratch.path);
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot make a folder for the container', { path: base });
    }
    return scratch;
  }

  /** The image is mounted here. */
  get lower(): string {
    return join(this.path, 'lower');
  }

  get bundle(): string {
    return join(this.path, 'bundle');
  }

  /** The container's root, in a mount namespace of its own. */
  get rootfs(): string {
    return join(this.bundle, 'rootfs');
  }

  /** State of the container runtime. */
  get runtimeState(): string {
    return join(this.path, 'runtime');
  }

  get runtimeLog(): string {
    return join(this.path, 'runtime.log');
  }

  get pidFile(): string {
    return join(this.path, 'pid');
  }

  /** What is written goes to memory, because the file system here cannot take it. */
  get needsMemory(): boolean {
    return UNFIT.has(statfsSync(this.path).type);
  }

  /** Writes a file that the container sees, and returns its path. */
  writeFile(name: string, text: string, mode = 0o644): string {
    const path = join(this.path, 'files', name);
    writeFileSync(path, text, { mode });
    // Whatever the umask says.
    chmodSync(path, mode);
    return path;
  }

  update(change: Partial<RunRecord>): void {
    const record = this.read();
    if (!record) throw new LazypullError('INTERNAL', 'the record of the run is gone', { path: this.path });
    const draft = join(this.path, 'run.json.new');
    writeFileSync(draft, JSON.stringify({ ...record, ...change }), { mode: 0o600 });
    renameSync(draft, join(this.path, 'run.json'));
  }

  get hasRecord(): boolean {
    return existsSync(join(this.path, 'run.json'));
  }

  /** Milliseconds since anything was made in it, while it has its first name; one that has its own was complete before. */
  get ageMs(): number {
    return this.path.includes(`/.${PREFIX}`) ? Date.now() - lstatSync(this.path).mtimeMs : Number.POSITIVE_INFINITY;
  }

  /** Undefined when there is none, or none that can be understood. */
  read(): RunRecord | undefined {
    try {
      const parsed = runRecord.safeParse(JSON.parse(readFileSync(join(this.path, 'run.json'), 'utf8')));
      return parsed.success ? parsed.data : undefined;
    } catch {
      return undefined;
    }
  }

  /** Takes it away with all that the container wrote. Refuses while anything is mounted in it. */
  async remove(): Promise<void> {
    const [left] = mountsFrom(this.path);
    if (left) throw new LazypullError('IO', 'still mounted', { path: left.target });
    try {
      await rm(this.path, { recursive: true, force: true, maxRetries: 2 });
    } catch {
      // Paths can be longer than any path may be, and folders closed to their owner: rm(1) knows how.
      await runQuietly('chmod', ['-R', 'u+rwx', this.path]);
      await runQuietly('rm', ['-rf', '--', this.path]);
    }
    if (existsSync(this.path)) throw new LazypullError('IO', 'cannot remove what the container wrote', { path: this.path });
  }
}

/** All that this user has, whoever it belongs to. */
export function knownScratches(env: Environment): readonly Scratch[] {
  return scratchFolders(env).flatMap((base) => namesIn(base).filter((name) => /^\.?lazypull-run-[0-9a-f]{12}$/.test(name)).flatMap((name) => {
    const path = join(base, name);
    return isOwn(path) ? [new Scratch(path)] : [];
  }));
}

export function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return 'unknown';
  }
}

/** The first is where new ones are made. */
function scratchFolders(env: Environment): readonly string[] {
  const wanted = [env['TMPDIR'], '/var/tmp', tmpdir()].filter((folder): folder is string => folder !== undefined && folder.startsWith('/') && existsSync(folder));
  return [...new Set(wanted.length > 0 ? wanted : ['/tmp'])];
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Anybody can make a folder of such a name in /tmp: only our own is believed. */
function isOwn(path: string): boolean {
  try {
    const stats = lstatSync(path);
    return stats.isDirectory() && stats.uid === process.geteuid?.() && stats.mode % 0o100 === 0;
  } catch {
    return false;
  }
}
