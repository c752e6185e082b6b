import { randomBytes } from 'node:crypto';
import { constants, lstat, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAbort, LazypullError, wrapError } from '../core/errors.ts';
import type { Sink } from '../core/types.ts';
import type { Output } from './output.ts';

/**
 * Runs `work` with a sink for a tar: standard output for `-`, otherwise a file, which gets its name when it is whole. A
 * device or a pipe of that name is written to.
 * Undefined when the reader of standard output left before the end.
 */
export async function tarTarget<T>(name: string, out: Output, overwrite: boolean, work: (sink: Sink) => Promise<T>): Promise<T | undefined> {
  if (name !== '-') return (await isSpecial(name)) ? tarPipe(name, work) : tarFile(name, overwrite, work);
  try {
    return await work(async (bytes) => {
      await out.write(bytes);
      if (out.readerGone) throw new LazypullError('CANCELLED', 'nobody reads standard output any more');
    });
  } catch (error) {
    if (out.readerGone && isAbort(error)) return undefined;
    throw error;
  }
}

async function tarFile<T>(path: string, overwrite: boolean, work: (sink: Sink) => Promise<T>): Promise<T> {
  if (!overwrite && (await isThere(path))) throw new LazypullError('USAGE', 'is there already; --overwrite replaces it', { path });
  const temp = join(dirname(path), `.lazypull-${process.pid}-${randomBytes(8).toString('hex')}`);
  const handle = await io(path, open(temp, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o666));
  try {
    const result = await work((bytes) => writeAll(path, handle, bytes));
    await io(path, handle.close());
    await io(path, rename(temp, path));
    return result;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temp, { force: true }).catch(() => undefined);
    throw error;
  }
}

async function tarPipe<T>(path: string, work: (sink: Sink) => Promise<T>): Promise<T> {
  const handle = await io(path, open(path, constants.O_WRONLY));
  try {
    return await work((bytes) => writeAll(path, handle, bytes));
  } finally {
    await handle.close();
  }
}

async function writeAll(path: string, handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await io(path, handle.write(bytes, at))).bytesWritten;
}

async function io<R>(path: string, step: Promise<R>): Promise<R> {
  try {
    return await step;
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot write the tar', { path });
  }
}

/** What is no file must not be replaced by one: /dev/stdout, /dev/null, a named pipe. */
async function isSpecial(path: string): Promise<boolean> {
  try {
    const info = await stat(path);
    return !info.isFile() && !info.isDirectory();
  } catch {
    return false;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch {
    return false;
  }
}
