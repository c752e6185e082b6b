import { spawn } from 'node:child_process';
import { LazypullError, printable, throwIfAborted } from '../core/errors.ts';
import type { Credential } from './credential.ts';
import type { Environment } from './registry-options.ts';

const OUTPUT_LIMIT = 1024 * 1024;
const NOT_FOUND = /credentials not found in native keychain/i;

export interface HelperOptions {
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  readonly helperTimeoutMs?: number | undefined;
}

/**
 * Asks `docker-credential-<name> get` (docker-credential-helpers protocol): the key on stdin, JSON on stdout, and on
 * failure the reason on stdout. Undefined when the helper has nothing for that key.
 */
export async function getFromHelper(name: string, key: string, options: HelperOptions): Promise<Credential | undefined> {
  const program = `docker-credential-${name}`;
  const { code, output } = await run(program, key, options);
  if (code !== 0) {
    if (NOT_FOUND.test(output)) return undefined;
    // stdout is a message in this case, and never a secret; one line of it will do.
    const said = printable(output.trim().split('\n')[0]?.slice(0, 200) ?? '');
    throw new LazypullError('UNAUTHORIZED', `${program} failed for ${printable(key)}: ${said || `exit code ${code}`}`);
  }
  const reply = parseReply(output, program);
  if (reply.username === '<token>') return { kind: 'identity', username: '', token: reply.secret };
  return reply.username === '' && reply.secret === '' ? undefined : { kind: 'basic', username: reply.username, password: reply.secret };
}

function parseReply(output: string, program: string): { username: string; secret: string } {
  let reply: unknown;
  try {
    reply = JSON.parse(output);
  } catch {
    reply = undefined;
  }
  if (typeof reply === 'object' && reply !== null) {
    const { Username: username, Secret: secret } = reply as Record<string, unknown>;
    if (typeof username === 'string' && typeof secret === 'string') return { username, secret };
  }
  throw new LazypullError('UNAUTHORIZED', `${program} did not answer with a Username and a Secret`);
}

function run(program: string, input: string, options: HelperOptions): Promise<{ code: number; output: string }> {
  throwIfAborted(options.signal);
  const timeoutMs = options.helperTimeoutMs ?? 10_000;
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env: { ...options.env }, stdio: ['pipe', 'pipe', 'ignore'], shell: false });
    const parts: Buffer[] = [];
    let size = 0;
    let failure: LazypullError | undefined;
    const stop = (error: LazypullError): void => {
      failure ??= error;
      child.kill('SIGKILL');
      // A grandchild may hold the pipe open; nothing more is wanted from it.
      child.stdout.destroy();
    };
    const timer = setTimeout(() => stop(new LazypullError('UNAUTHORIZED', `${program} gave no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    const onAbort = (): void => stop(new LazypullError('CANCELLED', 'cancelled', { cause: options.signal?.reason }));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    child.on('error', (error: NodeJS.ErrnoException) => {
      settle();
      const why = error.code === 'ENOENT' ? 'it is not installed (not found in PATH)' : printable(error.message);
      reject(failure ?? new LazypullError('UNAUTHORIZED', `cannot run ${program}, which the credentials file names: ${why}`, { cause: error }));
    });
    child.stdout.on('data', (part: Buffer) => {
      size += part.length;
      if (size > OUTPUT_LIMIT) stop(new LazypullError('LIMIT', `${program} wrote more than ${OUTPUT_LIMIT} bytes`));
      else parts.push(part);
    });
    child.on('close', (code) => {
      settle();
      if (failure) reject(failure);
      else resolve({ code: code ?? 1, output: Buffer.concat(parts).toString('utf8') });
    });
    // A helper that does not read its input is its own affair.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
