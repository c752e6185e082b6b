import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HttpError } from '../../src/oci/http-error.ts';
import { Health } from '../../src/oci/health.ts';

const silence = (): HttpError => new HttpError('NETWORK', 'GET failed: connection refused', { path: 'http://r/', retryable: true });

class Scene {
  now = 0;
  steady = 0;
  trials = 0;
  readonly heard: string[] = [];
  readonly health = new Health({ name: 'r.example', first: 1000, most: 4000, now: () => this.now, onDown: () => this.heard.push('down'), onUp: (ms) => this.heard.push(`up ${ms}`) });

  ask(result: () => Promise<string> | string): Promise<string> {
    return this.health.run(
      async () => ((this.steady += 1), result()),
      async () => ((this.trials += 1), result()),
    );
  }
}

const fail = (): never => {
  throw silence();
};

describe('health of a host', () => {
  it('asks once now and then while there is no answer, and everybody once there is one', async () => {
    const scene = new Scene();
    await assert.rejects(scene.ask(fail), /connection refused/);
    assert.deepEqual([scene.steady, scene.trials, scene.health.down], [1, 0, true]);
    for (let i = 0; i < 10; i++) await assert.rejects(scene.ask(fail), { code: 'NETWORK', message: /r\.example has not answered for \d+ s.*connection refused/ });
    assert.deepEqual([scene.steady, scene.trials], [1, 0], 'nobody was asked');
    scene.now = 1001;
    await assert.rejects(scene.ask(fail), /connection refused/);
    await assert.rejects(scene.ask(fail), /not asked again yet/);
    assert.equal(scene.trials, 1);
    scene.now = 2500;
    await assert.rejects(scene.ask(fail), /not asked again yet/, 'longer after each failure');
    scene.now = 3100;
    assert.equal(await scene.ask(() => (scene.health.answered(), 'yes')), 'yes');
    assert.deepEqual([scene.steady, scene.trials, scene.health.down], [1, 2, false]);
    assert.equal(await scene.ask(() => 'again'), 'again');
    assert.equal(scene.steady, 2);
    assert.deepEqual(scene.heard, ['down', 'up 3100']);
  });

  it('lets others wait for a moment for the one who finds out', async () => {
    const scene = new Scene();
    await assert.rejects(scene.ask(fail));
    scene.now = 1500;
    let end: (text: string) => void = () => undefined;
    const first = scene.ask(() => new Promise<string>((resolve) => (end = resolve)).then((text) => (scene.health.answered(), text)));
    const others = [scene.ask(() => 'b'), scene.ask(() => 'c')];
    assert.equal(scene.health.down, true, 'not worth asking while somebody finds out');
    end('a');
    assert.deepEqual(await Promise.all([first, ...others]), ['a', 'b', 'c']);
    assert.deepEqual([scene.trials, scene.steady], [1, 3]);
  });

  it('is not about what was asked for, nor about one failure among answers', async () => {
    const scene = new Scene();
    const refused = new HttpError('NOT_FOUND', 'GET answered 404', { path: '', status: 404 });
    await assert.rejects(scene.ask(() => Promise.reject(refused)));
    assert.equal(scene.health.down, false);
    await assert.rejects(scene.ask(async () => {
      scene.now += 5;
      scene.health.answered();
      throw silence();
    }));
    assert.equal(scene.health.down, false, 'others were answered meanwhile');
    const stopped = new AbortController();
    stopped.abort();
    await assert.rejects(scene.ask(fail));
    scene.now += 2000;
    void scene.ask(() => new Promise<string>(() => undefined));
    await assert.rejects(scene.health.run(async () => 1, async () => 1, stopped.signal), { code: 'CANCELLED' });
  });
});
