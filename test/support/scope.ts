import type { Scope } from './peers.ts';

/** What peers need where there is no test: what they start is ended by `close`, the newest first. */
export interface OwnScope extends Scope {
  close(): Promise<void>;
}

/** `skip` is told why something cannot be had; where that must not be, it throws. */
export function ownScope(skip: Scope['skip'] = () => undefined, diagnostic: Scope['diagnostic'] = () => undefined): OwnScope {
  const undos: (() => unknown)[] = [];
  return {
    after: (undo) => void undos.push(undo),
    skip,
    diagnostic,
    async close() {
      for (const undo of undos.reverse()) await undo();
    },
  };
}

export async function inScope<T>(work: (t: Scope) => Promise<T>, skip?: Scope['skip'], diagnostic?: Scope['diagnostic']): Promise<T> {
  const scope = ownScope(skip, diagnostic);
  try {
    return await work(scope);
  } finally {
    await scope.close();
  }
}

/** For programs that make something: what is missing is an error. */
export function mustNotSkip(reason: string): never {
  throw new Error(reason);
}
