import { randomBytes } from 'node:crypto';
import { constants, lstat, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAbort, LazypullError, wrapError } from '../core/errors.ts';
import type { Sink } from '../core/types.ts';
import type { Output } from './output.ts';

/**
 * Runs `work` with a sink for a tar: standard output for `-`, otherwise a file, which gets its name when it is whole.
 * Undefined when the reader of standard output left before the end.
 */
export async function tarTarget<T>(name: string, out: Output, overwrite: boolean, work: (sink: Sink) => Promise<T>): Promise<T | undefined> {
  if (name !== '-') return tarFile(name, overwrite, work);
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
  const io = async <R>(step: Promise<R>): Promise<R> => {
    try {
      return await step;
    } catch (error) {
      throw wrapError(error, 'IO', 'cannot write the tar', { path });
    }
  };
  const handle = await io(open(temp, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o666));
  try {
    const result = await work(async (bytes) => {
      for (let at = 0; at < bytes.length; ) at += (await io(handle.write(bytes, at))).bytesWritten;
    });
    await io(handle.close());
    await io(rename(temp, path));
    return result;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temp, { force: true }).catch(() => undefined);
    throw error;
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
