import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;
let tried = false;

/**
 * Has the garbage collected now. What has been fetched and kept is garbage a moment later, some MiB at a time, and the engine lets
 * a hundred of them pile up before it looks; a server that is to stay small has to ask. Takes some 10 ms.
 */
export function tidyMemory(): void {
  if (!tried) {
    tried = true;
    try {
      // The only way for a program that was not started with --expose-gc.
      setFlagsFromString('--expose-gc');
      collect = runInNewContext('typeof gc === "function" ? gc : undefined') as typeof collect;
    } catch {
      // Then it comes when it comes.
    }
  }
  collect?.();
}
