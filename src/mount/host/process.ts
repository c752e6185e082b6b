import { Socket } from 'node:net';
import { LazypullError } from '../../core/errors.ts';
import { Channel } from './channel.ts';
import type { ProcessContext } from './context.ts';
import { errorFields, Log } from './log.ts';
import { FUSE_FD, PIPE_FD, type Order, type ServeOptions } from './messages.ts';

/** `serve-remote`: an image in a registry. */
export type ExpectedRole = 'serve' | 'serve-remote';

/**
 * One of the processes of a mount, in whatever role the one that has started it gives it: over a pipe that it inherits.
 * Resolves when its work is done. USAGE when nobody has started it in this way. `expected` is the role that it will probably get.
 */
export async function runMountProcess(context: ProcessContext, expected?: ExpectedRole): Promise<void> {
  // While the order is on its way, what it will take is loaded.
  if (expected) void Promise.all([import('./daemon.ts'), context.loadFormats(), expected === 'serve-remote' ? import('../../oci/registry.ts') : undefined]).catch(() => undefined);
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
      const { Daemon } = await import('./daemon.ts');
      await logged(order.options, 'daemon', (log) => new Daemon(order.options, { ...context, log }).serve(pipe as never, order.owner));
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
