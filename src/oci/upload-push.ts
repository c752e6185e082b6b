import { verified } from '../core/digest.ts';
import type { ByteStream, Descriptor } from '../core/types.ts';
import { HttpError, isStatus } from './http-error.ts';
import type { RepositoryClient } from './repository.ts';
import { hasBlob, startUpload, type UploadSession } from './upload.ts';

/**
 * Stores a blob of known digest in one PUT, unless it is there. A failed PUT is never resumed: every try has a session
 * and a stream of its own. `spare` is a session that a refused mount left open.
 */
export async function pushBlob(
  repository: RepositoryClient,
  descriptor: Descriptor,
  open: () => ByteStream,
  options: { readonly signal?: AbortSignal | undefined; readonly spare?: UploadSession | undefined } = {},
): Promise<void> {
  const { digest, size } = descriptor;
  const { signal } = options;
  let spare = options.spare;
  const what = `blob ${digest} for ${repository.location}`;
  try {
    await repository.http.run(async () => {
      // The try before may have got through although its answer did not.
      if (await hasBlob(repository, digest, repository.push, signal)) return;
      const session = spare ?? await startUpload(repository, signal);
      spare = undefined;
      let failure: unknown;
      const stream = async function* (): AsyncGenerator<Uint8Array> {
        try {
          yield* verified(open(), descriptor, what);
        } catch (error) {
          failure ??= error;
          throw error;
        }
      };
      try {
        await session.commit(digest, { length: size, stream }, signal);
      } catch (error) {
        await session.cancel();
        // What went wrong on our side says more than the connection that broke because of it.
        if (failure !== undefined) throw finalError(failure);
        throw isStatus(error, 404) ? again(error) : error;
      }
    }, signal);
  } finally {
    await spare?.cancel();
  }
}

/** A source that failed has had its own retries. */
function finalError(failure: unknown): unknown {
  if (!(failure instanceof HttpError)) return failure;
  const { code, message, path = '' } = failure;
  return new HttpError(code, message.replace(` (${path})`, ''), { path, cause: failure, retryable: false });
}

/** The session has expired; a new one may be luckier. */
function again(error: HttpError): HttpError {
  return new HttpError('NETWORK', 'the upload session has expired', { path: error.path ?? '', cause: error, status: 404, retryable: true });
}
