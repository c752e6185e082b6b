import type { ByteStream } from './types.ts';

type Next = IteratorResult<Uint8Array>;

/**
 * One stream for two readers. Each piece is lent to both, and the next one is asked for when both have come back for it, so
 * that nothing piles up: the slower reader sets the pace. A reader that leaves early no longer holds up the other; one that
 * never begins does, and has to be told to `return`.
 */
export function share(stream: ByteStream): [SharedStream, SharedStream] {
  const source = stream[Symbol.asyncIterator]();
  const waiting = new Map<SharedStream, { resolve: (next: Next) => void; reject: (error: unknown) => void }>();
  const open = new Set<SharedStream>();
  let failure: { error: unknown } | undefined;
  const advance = (): void => {
    if (open.size === 0 || waiting.size < open.size) return;
    const readers = [...waiting.values()];
    waiting.clear();
    source.next().then(
      (next) => {
        if (next.done) open.clear();
        for (const { resolve } of readers) resolve(next);
      },
      (error: unknown) => {
        failure = { error };
        open.clear();
        for (const { reject } of readers) reject(error);
      },
    );
  };
  const branch = (): SharedStream => {
    const self: SharedStream = {
      [Symbol.asyncIterator]: () => self,
      next: () =>
        new Promise((resolve, reject) => {
          if (!open.has(self)) {
            if (failure) reject(failure.error);
            else resolve({ done: true, value: undefined });
            return;
          }
          waiting.set(self, { resolve, reject });
          advance();
        }),
      async return() {
        if (open.delete(self)) {
          waiting.get(self)?.resolve({ done: true, value: undefined });
          waiting.delete(self);
          if (open.size > 0) advance();
          else await source.return?.();
        }
        return { done: true, value: undefined };
      },
    };
    open.add(self);
    return self;
  };
  return [branch(), branch()];
}

/** One reader's side of a shared stream. */
export interface SharedStream extends AsyncIterableIterator<Uint8Array> {
  next(): Promise<Next>;
  /** Leaves the stream; the other reader goes on alone. */
  return(): Promise<Next>;
}
