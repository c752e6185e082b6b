import { appendFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { Channel } from '../../../src/mount/host/channel.ts';
import { Log } from '../../../src/mount/host/log.ts';
import { FUSE_FD, PIPE_FD, type Order } from '../../../src/mount/host/messages.ts';
import { SupervisorLink } from '../../../src/mount/host/supervisor-link.ts';
import { Supervisor } from '../../../src/mount/host/supervisor.ts';

/**
 * The processes of a mount without a mount: a real supervisor, and daemons that serve nothing. What happens is written to a
 * file; `options.why` says how daemons behave that take over. SIGUSR2: ask for a new daemon.
 */

const pipe = new Channel<never, never>(new Socket({ fd: PIPE_FD }));
const order = (await pipe.receive()) as Order | undefined;
if (order?.role === 'serve' || order?.role === 'resume') {
  const { options } = order;
  const log = new Log(options.log, 'daemon');
  const tell = (what: string): void => appendFileSync(join(options.folder, 'events'), `${process.pid} ${what}\n`);
  const restarts = order.role === 'resume' ? order.restarts : 0;
  const link = order.role === 'resume' ? SupervisorLink.of(options, FUSE_FD, restarts, log, pipe as never) : SupervisorLink.start(options, FUSE_FD, restarts, log);
  link.onSupervisor = ({ pid }) => tell(`supervisor ${pid}`);
  link.onStop = () => {
    tell('stopped');
    link.bye();
    setTimeout(() => process.exit(0), 50);
  };
  if (order.role === 'resume') {
    tell(`${order.standBy ? 'standby' : 'resume'} ${restarts} of ${order.supervisor.pid}`);
    if (options.why === 'dies') process.exit(1);
    if (order.standBy) {
      if (!(await link.standBy())) process.exit(0);
      tell('go');
    }
    link.serving();
  } else {
    await link.watching;
  }
  process.on('SIGUSR2', () => {
    link.replace().catch((error: Error) => tell(`not replaced: ${error.message}`));
  });
  tell('serving');
  await link.left;
  tell('left');
  process.exit(0);
} else if (order?.role === 'supervise') {
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort());
  await new Supervisor(order, pipe as never, new Log(order.options.log, 'supervisor'), { deaths: 1, maxCrashes: 4, firstPauseMs: 10, maxPauseMs: 20, killedPauseMs: 10 }).run(stop.signal);
  appendFileSync(join(order.options.folder, 'events'), `${process.pid} supervisor ended\n`);
  process.exit(0);
}
