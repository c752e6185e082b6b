import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import type { ServeOptions } from '../../../src/mount/host/messages.ts';
import { awaitEnd, isAlive, markOf, ownMark, type ProcessMark } from '../../../src/mount/host/processes.ts';
import { spawnProcess } from '../../../src/mount/host/spawn.ts';
import { built } from '../../support/root.ts';

const top = mkdtempSync(join(tmpdir(), 'lazypull-supervisor-'));
after(() => rmSync(top, { recursive: true }));

/** Limit for anything that is waited for: it comes in milliseconds, unless the machine is very busy. */
const PATIENCE_MS = 20_000;

class Family {
  readonly #folder = mkdtempSync(join(top, 'mount-'));
  readonly #pids = new Set<number>();

  constructor(t: TestContext, behaviour = 'serves') {
    const options = { folder: this.#folder, why: behaviour, planned: {}, log: join(this.#folder, 'log'), program: [process.execPath, join(built, 'test', 'mount', 'host', 'fake-daemon.js')] };
    const fuse = openSync('/dev/null', 'r');
    const { channel } = spawnProcess({ program: options.program, order: { role: 'serve', options: options as unknown as ServeOptions, owner: ownMark() }, fuse, output: 'ignore' });
    closeSync(fuse);
    channel.unref();
    t.after(async () => {
      this.events();
      for (const pid of [...this.#pids].toReversed()) if (markOf(pid)) process.kill(pid, 'SIGKILL');
      await awaitEnd([...this.#pids].map(markOf), PATIENCE_MS);
    });
  }

  events(): string[] {
    let text = '';
    try {
      text = readFileSync(join(this.#folder, 'events'), 'utf8');
    } catch {
      // nothing yet
    }
    const lines = text.split('\n').filter((line) => line !== '');
    for (const line of lines) for (const pid of line.matchAll(/^\d+|(?<=(?:supervisor|of) )\d+$/g)) this.#pids.add(Number(pid[0]));
    return lines;
  }

  /** The first event that fits, behind those that were there. */
  async event(pattern: RegExp, behind = 0): Promise<RegExpExecArray> {
    for (const until = Date.now() + PATIENCE_MS; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 10))) {
      for (const line of this.events().slice(behind)) {
        const match = pattern.exec(line);
        if (match) return match;
      }
    }
    throw new Error(`${String(pattern)} has not come; there was:\n${this.events().join('\n')}\n${readFileSync(join(this.#folder, 'log'), 'utf8')}`);
  }

  mark(pid: string | undefined): ProcessMark {
    const mark = markOf(Number(pid));
    assert.ok(mark, `${pid} runs`);
    return mark;
  }
}

function kill({ pid }: ProcessMark, signal: NodeJS.Signals = 'SIGKILL'): void {
  process.kill(pid, signal);
}

describe('supervisor and daemon', () => {
  it('a daemon that is killed is followed by another one, and that by another', async (t) => {
    const family = new Family(t);
    const supervisor = family.mark((await family.event(/supervisor (\d+)/))[1]);
    let daemon = family.mark((await family.event(/^(\d+) serving/))[1]);
    for (const restarts of [1, 2, 3]) {
      const behind = family.events().length;
      kill(daemon);
      const [, pid, by] = await family.event(new RegExp(`^(\\d+) resume ${restarts} of (\\d+)$`), behind);
      assert.equal(Number(by), supervisor.pid);
      await family.event(new RegExp(`^${pid} serving`), behind);
      daemon = family.mark(pid);
    }
    assert.ok(isAlive(supervisor));
  });

  it('a supervisor that is killed is followed by another one, which can do the same', async (t) => {
    const family = new Family(t);
    const first = family.mark((await family.event(/supervisor (\d+)/))[1]);
    const daemon = family.mark((await family.event(/^(\d+) serving/))[1]);
    const behind = family.events().length;
    kill(first);
    const second = family.mark((await family.event(/supervisor (\d+)/, behind))[1]);
    assert.notEqual(second.pid, first.pid);
    assert.ok(isAlive(daemon));
    kill(daemon);
    const [, , by] = await family.event(/^(\d+) resume 1 of (\d+)$/, behind);
    assert.equal(Number(by), second.pid);
  });

  it('a daemon is replaced without a gap: the new one is ready before the old one leaves, and serves after it', async (t) => {
    const family = new Family(t);
    const daemon = family.mark((await family.event(/^(\d+) serving/))[1]);
    kill(daemon, 'SIGUSR2');
    const [, pid] = await family.event(/^(\d+) go$/);
    await family.event(new RegExp(`^${pid} serving`));
    assert.equal(isAlive(daemon), false);
    const order = family.events().filter((line) => !line.includes('supervisor')).map((line) => line.replace(/^\d+ /, '').replace(/ of .*/, ''));
    assert.deepEqual(order, ['serving', 'standby 1', 'left', 'go', 'serving']);
  });

  it('a new daemon that does not get ready changes nothing', async (t) => {
    const family = new Family(t, 'dies');
    const daemon = family.mark((await family.event(/^(\d+) serving/))[1]);
    kill(daemon, 'SIGUSR2');
    await family.event(/not replaced: the new daemon ended before it was ready/);
    assert.ok(isAlive(daemon));
  });

  it('a supervisor that is told to end has the daemon stop, and both are gone', async (t) => {
    const family = new Family(t);
    const supervisor = family.mark((await family.event(/supervisor (\d+)/))[1]);
    const daemon = family.mark((await family.event(/^(\d+) serving/))[1]);
    kill(supervisor, 'SIGTERM');
    await family.event(/stopped/);
    assert.ok(await awaitEnd([supervisor, daemon], PATIENCE_MS));
    assert.equal(family.events().some((line) => line.includes('resume')), false);
  });

  it('daemons that die at once are given up after a while', async (t) => {
    const family = new Family(t, 'dies');
    const supervisor = family.mark((await family.event(/supervisor (\d+)/))[1]);
    kill(family.mark((await family.event(/^(\d+) serving/))[1]));
    await family.event(/supervisor ended/);
    assert.ok(await awaitEnd([supervisor], PATIENCE_MS));
    const tries = family.events().filter((line) => line.includes('resume')).length;
    assert.equal(tries, 5);
  });
});
