import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { defer, type Scope } from '../support/peers.ts';

/**
 * A link of so many Mbit/s and so many ms round trip in front of a server, for all connections together. It behaves as TCP over such a line does:
 * a new connection costs a round trip before its first byte, begins with ten segments in flight and doubles them every round trip, and begins
 * anew after a pause; those that have something to send take turns. What headers of TCP and IP would take is not counted.
 */
export interface LinkOptions {
  /** Payload, 1e6 bits per second, each way. */
  readonly mbit: number;
  /** Milliseconds. */
  readonly roundTrip: number;
}

/** What one request cost on the link. */
export interface LinkRequest {
  /** `performance.now()` at which the client sent it, and at which the last byte of its answer so far reached the client. */
  readonly at: number;
  last: number;
  readonly line: string;
  readonly range: string | undefined;
  /** Bytes of the answer that have reached the client, headers included. */
  bytes: number;
}

/** What a connection may have in flight at first, and at most; bytes. */
const FIRST_WINDOW = 10 * 1448;
const MAX_WINDOW = 1 << 20;
/** After so long without anything in flight (ms) a connection begins anew. */
const IDLE = 250;
/** What one connection sends before the next one's turn, bytes. */
const TURN = 3 * 1448;
/** What is taken from a sender ahead of its turn. */
const QUEUE = 128 << 10;

export class Link {
  readonly host: string;
  readonly #requests: LinkRequest[] = [];

  private constructor(host: string) {
    this.host = host;
  }

  /** `upstream`: host:port of the server. */
  static async start(t: Scope, upstream: string, { mbit, roundTrip }: LinkOptions): Promise<Link> {
    const [name = '', port] = upstream.split(':');
    const rate = (mbit * 1e6) / 8 / 1000;
    const down = new Direction(rate, roundTrip / 2);
    const up = new Direction(rate, roundTrip / 2);
    const sockets = new Set<Socket>();
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
      const far = connect({ host: name, port: Number(port), noDelay: true, allowHalfOpen: true });
      const seen = link.#watch();
      up.flow(client, far, roundTrip, (piece) => seen.sent(piece), () => undefined);
      down.flow(far, client, 0, () => undefined, (bytes) => seen.arrived(bytes));
      for (const [one, other] of [[client, far], [far, client]] as const) {
        sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          sockets.delete(one);
          if (one.destroyed && !one.readableEnded) other.destroy();
        });
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const link = new Link(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    defer(t, () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return link;
  }

  /** Requests since it was asked last. Those that go on are told with what they have so far. */
  take(): readonly LinkRequest[] {
    return this.#requests.splice(0);
  }

  #watch(): { sent(piece: Buffer): void; arrived(bytes: number): void } {
    let current: LinkRequest | undefined;
    return {
      sent: (piece) => {
        const head = /^((?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+) HTTP\/1\.[01]\r\n/.exec(piece.toString('latin1', 0, 2000));
        if (!head) return;
        const at = performance.now();
        current = { at, last: at, line: head[1] as string, range: /\r\nrange: *bytes=(\S+)/i.exec(piece.toString('latin1'))?.[1], bytes: 0 };
        this.#requests.push(current);
      },
      arrived: (bytes) => {
        if (!current) return;
        current.bytes += bytes;
        current.last = performance.now();
      },
    };
  }
}

/** One side of a connection, on its way through one direction of the link. */
interface Flow {
  readonly source: Socket;
  readonly target: Socket;
  readonly queue: Buffer[];
  queued: number;
  inFlight: number;
  window: number;
  /** Nothing goes before. */
  opens: number;
  /** When something was in flight last. */
  busy: number;
  ended: boolean;
  readonly onArrival: (bytes: number) => void;
}

interface Event {
  readonly at: number;
  readonly run: () => void;
}

/** One way of the line: pieces go one after another at its rate, arrive after its delay, and are acknowledged after as much again. */
class Direction {
  readonly #rate: number;
  readonly #delay: number;
  /** Those that have something to send, in turn. */
  readonly #waiting: Flow[] = [];
  /** In order of time: each kind comes a fixed time after a piece has gone. */
  readonly #arrivals: Event[] = [];
  readonly #acknowledgements: Event[] = [];
  #free = 0;
  #timer: NodeJS.Timeout | undefined;
  #at = Infinity;

  /** `rate`: bytes per ms. */
  constructor(rate: number, delay: number) {
    this.#rate = rate;
    this.#delay = delay;
  }

  flow(source: Socket, target: Socket, opening: number, onPiece: (piece: Buffer) => void, onArrival: (bytes: number) => void): void {
    const now = performance.now();
    const flow: Flow = { source, target, queue: [], queued: 0, inFlight: 0, window: FIRST_WINDOW, opens: now + opening, busy: now, ended: false, onArrival };
    source.on('data', (piece: Buffer) => {
      onPiece(piece);
      flow.queue.push(piece);
      flow.queued += piece.length;
      if (flow.queued > QUEUE) source.pause();
      if (!this.#waiting.includes(flow)) this.#waiting.push(flow);
      this.#go();
    });
    source.on('end', () => {
      flow.ended = true;
      this.#finish(flow);
    });
  }

  /** Sends what may go now, and sees to it that this happens again when more may. */
  #go(): void {
    const now = performance.now();
    for (const events of [this.#arrivals, this.#acknowledgements]) while ((events[0]?.at ?? Infinity) <= now) events.shift()?.run();
    let next = Infinity;
    for (let skipped = 0; skipped < this.#waiting.length; ) {
      if (this.#free > now) {
        next = this.#free;
        break;
      }
      const flow = this.#waiting.shift() as Flow;
      if (flow.inFlight === 0 && now - flow.busy > IDLE) flow.window = FIRST_WINDOW;
      const room = Math.min(TURN, flow.window - flow.inFlight);
      if (flow.opens > now || room <= 0 || flow.target.writableLength > MAX_WINDOW) {
        if (flow.opens > now) next = Math.min(next, flow.opens);
        // An acknowledgement wakes the others; a reader that does not read is looked at now and then.
        else if (room > 0) next = Math.min(next, now + 5);
        this.#waiting.push(flow);
        skipped += 1;
        continue;
      }
      this.#send(flow, room, now);
      if (flow.queued > 0) this.#waiting.push(flow);
      skipped = 0;
    }
    this.#wakeAt(Math.min(next, this.#arrivals[0]?.at ?? Infinity, this.#acknowledgements[0]?.at ?? Infinity), now);
  }

  #send(flow: Flow, room: number, now: number): void {
    const first = flow.queue[0] as Buffer;
    const piece = first.subarray(0, room);
    if (piece.length === first.length) flow.queue.shift();
    else flow.queue[0] = first.subarray(room);
    flow.queued -= piece.length;
    flow.inFlight += piece.length;
    if (flow.queued < QUEUE / 2) flow.source.resume();
    // A timer that came a moment late costs the line nothing.
    this.#free = Math.max(this.#free, now - 2) + piece.length / this.#rate;
    this.#arrivals.push({
      at: this.#free + this.#delay,
      run: () => {
        if (!flow.target.destroyed) flow.target.write(piece);
        flow.onArrival(piece.length);
      },
    });
    this.#acknowledgements.push({
      at: this.#free + 2 * this.#delay,
      run: () => {
        flow.inFlight -= piece.length;
        flow.window = Math.min(MAX_WINDOW, flow.window + piece.length);
        flow.busy = performance.now();
        this.#finish(flow);
      },
    });
  }

  #finish(flow: Flow): void {
    if (flow.ended && flow.queued === 0 && flow.inFlight === 0) flow.target.end();
  }

  #wakeAt(at: number, now: number): void {
    if (at === Infinity || (this.#timer && this.#at <= at)) return;
    clearTimeout(this.#timer);
    this.#at = at;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#at = Infinity;
      this.#go();
    }, Math.max(1, at - now));
  }
}
