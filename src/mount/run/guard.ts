import { spawn } from 'node:child_process';

/**
 * Waits for its input to end. When that happens without a farewell, whoever was running a container has been killed: the
 * container goes, too, and what is left of it on disk. The image's own mount sees to itself.
 */
const SCRIPT = `scratch=$1 id=$2 runtime= pid=
while read -r word value; do
  case $word in
    runtime) runtime=$value ;;
    launched) pid=$value ;;
    farewell) exit 0 ;;
  esac
done
if [ -n "$pid" ]; then kill -KILL "$pid"; fi
if [ -n "$runtime" ]; then "$runtime" --root "$scratch/runtime" delete --force "$id"; fi
tries=100
while [ "$tries" -gt 0 ] && grep -qF " $scratch/" /proc/self/mounts; do sleep 0.1; tries=$((tries - 1)); done
if grep -qF " $scratch/" /proc/self/mounts; then exit 1; fi
rm -rf --one-file-system -- "$scratch"
`;

/** A small process that outlives this one, and does what is necessary if this one is killed. */
export interface Guard {
  /** The container will be this runtime's. */
  runtime(path: string): void;
  /** What was started in this run, to be killed by number. */
  launched(pid: number): void;
  /** All is well. Resolves when it has ended. */
  dismiss(): Promise<void>;
}

export function startGuard(scratch: string, id: string, path: string): Guard {
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'lazypull-guard', scratch, id], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/', env: { PATH: path } });
  // Without it a run is as good as ever, as long as nobody kills it.
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  child.stdin.on('error', () => undefined);
  return {
    runtime: (at) => void child.stdin.write(`runtime ${at}\n`),
    launched: (pid) => void child.stdin.write(`launched ${pid}\n`),
    async dismiss() {
      child.stdin.end('farewell\n');
      await ended;
    },
  };
}
