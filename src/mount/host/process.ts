import { Socket } from 'node:net';
import { LazypullError } from '../../core/errors.ts';
import { Channel } from './channel.ts';
import type { askAhead as AskAheadFunction } from './ask-ahead.ts';
import type { DaemonContext, ProcessContext } from './context.ts';
import { errorFields, Log } from './log.ts';
import { FUSE_FD, PIPE_FD, type Order, type ServeOptions } from './messages.ts';

type AskAhead = typeof AskAheadFunction;

/** `serve-remote`: an image in a registry. */
export type ExpectedRole = 'serve' | 'serve-remote';

/**
 * One of the processes of a mount, in whatever role the one that has started it gives it: over a pipe that it inherits.
 * Resolves when its work is done. USAGE when nobody has started it in this way. `expected` is the role that it will probably get.
 */
export async function runMountProcess(context: ProcessContext, expected?: ExpectedRole): Promise<void> {
  // While the order is on its way, what it will take is loaded: first what asks the registry, so that the rest is loaded while that answers.
  const registry = expected === 'serve-remote' ? Promise.all([import('./ask-ahead.ts'), import('../../oci/registry.ts')]) : undefined;
  if (expected) void (registry ?? Promise.resolve()).then(() => Promise.all([import('./daemon.ts'), context.loadFormats()])).catch(() => undefined);
  const pipe = new Channel<never, never>(openPipe());
  const order = (await pipe.receive()) as Order | undefined;
  // Whoever has started it has thought better of it.
  if (!order) return;
  // Each role loads no more than it needs: a supervisor is to stay small.
  switch (order.role) {
    case 'supervise': {
      const { Supervisor } = await import('./supervisor.ts');
      await logged(order.options, 'supervisor', (log) => new Supervisor(order, pipe as never, log).run(context.signal));
      break;
    }
    case 'serve': {
      const asked = await registry?.then(([{ askAhead }]) => beginToAsk(askAhead, order.options, context, pipe.ended));
      const { Daemon } = await import('./daemon.ts');
      await logged(order.options, 'daemon', (log) => new Daemon(order.options, { ...context, log, ...(asked && { asked }) }).serve(pipe as never, order.owner));
      break;
    }
    case 'resume': {
      const [{ Daemon }, { SupervisorLink }] = await Promise.all([import('./daemon.ts'), import('./supervisor-link.ts')]);
      await logged(order.options, 'daemon', (log) => {
        const link = SupervisorLink.of(order.options, FUSE_FD, order.restarts, log, pipe as never);
        return new Daemon(order.options, { ...context, log }).resume(order, link);
      });
      break;
    }
    case 'move': {
      const { moveMount } = await import('./detach.ts');
      await moveMount(order.move, pipe as never);
      break;
    }
    case 'unmount': {
      const { unmountAll } = await import('./unmount.ts');
      await unmountAll(order.unmount, pipe as never);
      break;
    }
  }
}

/** `ended`: nobody waits for the mount any more. */
function beginToAsk(askAhead: AskAhead, options: ServeOptions, { env }: ProcessContext, ended: Promise<unknown>): NonNullable<DaemonContext['asked']> {
  const gone = new AbortController();
  void ended.then(() => gone.abort());
  const early: string[] = [];
  let warn = (text: string): void => void early.push(text);
  const answer = askAhead(options, env, (text) => warn(text), gone.signal);
  answer.catch(() => undefined);
  return {
    answer,
    hear(next) {
      warn = next;
      for (const text of early.splice(0)) next(text);
    },
  };
}

function openPipe(): Socket {
  try {
    return new Socket({ fd: PIPE_FD });
  } catch (error) {
    throw new LazypullError('USAGE', 'this command is for lazypull itself: use mount', { cause: error });
  }
}

async function logged(options: ServeOptions, role: string, run: (log: Log) => Promise<void>): Promise<void> {
  const log = new Log(options.log, role);
  try {
    await run(log);
  } catch (error) {
    log.error('ended', errorFields(error));
    throw error;
  } finally {
    log.close();
  }
}
