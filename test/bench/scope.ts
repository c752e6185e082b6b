import type { Scope } from '../support/peers.ts';

/** Runs something that uses peers outside of a test: what it started is ended when it is done, however it ends. */
export async function runScope<T>(work: (t: Scope) => Promise<T>): Promise<T> {
  const undos: (() => unknown)[] = [];
  const scope: Scope = {
    after: (undo) => undos.push(undo),
    skip: (reason) => process.stderr.write(`skipped: ${reason}\n`),
    diagnostic: (message) => process.stderr.write(`${message}\n`),
  };
  try {
    return await work(scope);
  } finally {
    for (const undo of undos.reverse()) await undo();
  }
}
