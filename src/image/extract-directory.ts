import { randomBytes } from 'node:crypto';
import { constants, link, lstat, mkdir, open, realpath, rename, rm, symlink, unlink } from 'node:fs/promises';
import { encodeName, isUtf8Name } from '../core/bytes.ts';
import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import type { DirectoryNode } from '../core/types.ts';
import { setAttributes, setDirectoryAttributes, setLinkAttributes, type FsPath } from './extract-attributes.ts';
import { filesInStoredOrder, type ReadableFile } from './extract-files.ts';
import { parentOf, type ExtractPlan } from './extract-plan.ts';
import type { ExtractProgress } from './extract-report.ts';
import { mapLimited } from './limited.ts';
import type { OpenImage } from './open.ts';

export interface DirectoryOptions {
  readonly overwrite: boolean;
  readonly sameOwner: boolean;
  readonly signal?: AbortSignal;
  readonly progress: (event: ExtractProgress) => void;
}

/** Files that are written side by side. */
const PARALLEL_FILES = 4;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Unpacks a selection below a directory. Directories come first and are real ones, symlinks come last: while files are being
 * written, there is no link that a stranger's name could lead through. Directories get their attributes at the very end.
 */
export async function extractToDirectory(image: OpenImage, plan: ExtractPlan, directory: string, options: DirectoryOptions): Promise<void> {
  const { signal } = options;
  const { base, isNew } = await openBase(directory);
  const output = new OutputDirectory(base, options);
  const there = await output.survey(plan, isNew, signal);
  await output.makeDirectories(plan.directories, there);
  for await (const batch of filesInStoredOrder(image, plan.files, signal)) {
    await mapLimited(batch, PARALLEL_FILES, (file, either) => output.writeFile(file, either), signal);
  }
  for (const { node, paths } of plan.symlinks) {
    throwIfAborted(signal);
    // Links to a symlink are further symlinks: where hard links follow them, one would end elsewhere.
    for (const path of paths) {
      const at = output.at(path);
      await output.place(path, () => symlink(Buffer.from(encodeName(node.target)), at));
      await io(path, 'cannot set the attributes of a symlink', () => setLinkAttributes(at, node, options.sameOwner));
    }
  }
  // A directory that was there before keeps its attributes like everything that is not replaced.
  const own = plan.directories.filter(({ path }) => (path === '' ? isNew && plan.roots.includes('') : options.overwrite || !there.has(path)));
  await output.finishDirectories(own);
}

/** The directory itself may be a symlink: the user named it. */
async function openBase(directory: string): Promise<{ base: string; isNew: boolean }> {
  return io(directory, 'cannot make the directory', async () => {
    const made = await mkdir(directory, { recursive: true });
    return { base: await realpath(directory), isNew: made !== undefined };
  });
}

class OutputDirectory {
  readonly #base: string;
  readonly #options: DirectoryOptions;
  readonly #temp = `.lazypull-${process.pid}-${randomBytes(8).toString('hex')}`;
  #temps = 0;

  constructor(base: string, options: DirectoryOptions) {
    this.#base = base;
    this.#options = options;
  }

  /** Where a clean path of the image is in the file system. */
  at(path: string): FsPath {
    const full = path === '' ? this.#base : `${this.#base}/${path}`;
    return isUtf8Name(path) ? full : Buffer.concat([Buffer.from(`${this.#base}/`), encodeName(path)]);
  }

  /** Finds out what is there already, before anything is changed: the directories are given back, and everything else is refused unless it may be replaced. */
  async survey(plan: ExtractPlan, isNew: boolean, signal: AbortSignal | undefined): Promise<ReadonlySet<string>> {
    const there = new Set<string>(isNew ? [] : ['']);
    for (const { path } of plan.directories) {
      throwIfAborted(signal);
      if (path === '' || !there.has(parentOf(path))) continue;
      const kind = await this.#kind(path);
      if (kind === 'directory') there.add(path);
      else if (kind !== undefined && !this.#options.overwrite) throw refused(path, `would replace a ${kind} by a directory, which needs overwrite`);
    }
    for (const { paths } of [...plan.files, ...plan.symlinks]) {
      throwIfAborted(signal);
      for (const path of paths) {
        if (!there.has(parentOf(path))) continue;
        const kind = await this.#kind(path);
        if (kind === 'directory') throw refused(path, 'would replace a directory that is there already, which is never done');
        if (kind !== undefined && !this.#options.overwrite) throw refused(path, `would replace a ${kind} that is there already, which needs overwrite`);
      }
    }
    return there;
  }

  async makeDirectories(directories: ExtractPlan['directories'], there: ReadonlySet<string>): Promise<void> {
    for (const { path } of directories) {
      throwIfAborted(this.#options.signal);
      // Until all is in it only the owner needs to get in.
      if (path !== '' && !there.has(path)) await this.place(path, () => mkdir(this.at(path), 0o700));
    }
  }

  async finishDirectories(directories: readonly { readonly path: string; readonly node: DirectoryNode }[]): Promise<void> {
    // Children first: their parents may become impassable.
    for (const { path, node } of directories.toReversed()) {
      throwIfAborted(this.#options.signal);
      await io(path, 'cannot set the attributes of a directory', () => setDirectoryAttributes(this.at(path), node, this.#options.sameOwner));
    }
  }

  /** Writes a file under a name of its own and moves it into place when it is whole. */
  async writeFile(file: ReadableFile, signal: AbortSignal): Promise<void> {
    const { node, paths: [path, ...others] } = file;
    const { sameOwner, progress } = this.#options;
    const parent = parentOf(path);
    const temp = this.at(parent === '' ? this.#tempName() : `${parent}/${this.#tempName()}`);
    await io(path, 'cannot write the file', async () => {
      try {
        const handle = await open(temp, NEW_FILE, 0o600);
        try {
          for await (const bytes of file.content(signal)) {
            await writeAll(handle, bytes);
            progress({ type: 'bytes', bytes: bytes.length });
          }
          await setAttributes(handle, node, sameOwner);
        } finally {
          await handle.close();
        }
        await rename(temp, this.at(path));
      } catch (error) {
        await rm(temp, { force: true });
        throw error;
      }
    });
    for (const name of others) await this.place(name, () => link(this.at(path), this.at(name)));
    progress({ type: 'file', path });
  }

  /** Makes something that is not made where anything else is; what is in the way goes when it may. */
  async place(path: string, make: () => Promise<unknown>): Promise<void> {
    await io(path, 'cannot be made', async () => {
      try {
        await make();
      } catch (error) {
        if (!this.#options.overwrite || !isCode(error, 'EEXIST')) throw error;
        await unlink(this.at(path));
        await make();
      }
    });
  }

  async #kind(path: string): Promise<'directory' | 'symlink' | 'file' | undefined> {
    return io(path, 'cannot look up what is there', async () => {
      try {
        const info = await lstat(this.at(path));
        return info.isDirectory() ? 'directory' : info.isSymbolicLink() ? 'symlink' : 'file';
      } catch (error) {
        if (isCode(error, 'ENOENT')) return undefined;
        throw error;
      }
    });
  }

  #tempName(): string {
    this.#temps += 1;
    return `${this.#temp}-${this.#temps}`;
  }
}

async function writeAll(handle: Awaited<ReturnType<typeof open>>, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
}

async function io<T>(path: string, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw wrapError(error, 'IO', what, { path });
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function refused(path: string, message: string): LazypullError {
  return new LazypullError('USAGE', message, { path });
}
