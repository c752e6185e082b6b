import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { built } from '../support/root.ts';
import { run } from './harness.ts';

const BIN = join(built, 'bin', 'lazypull.js');

describe('lazypull run', () => {
  it('is told apart from the program it runs: whatever it fails by itself is 125', async () => {
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [['run'], /missing required argument 'image'/],
      [['run', 'x', '--nonsense'], /unknown option '--nonsense'/],
      [['run', '--net', 'bridge', 'x'], /argument 'bridge' is invalid/],
      [['run', '--runtime', 'docker', 'x'], /argument 'docker' is invalid/],
    ];
    for (const [args, message] of cases) {
      const { code, stdout, stderr } = await run(args);
      assert.deepEqual([code, stdout], [125, ''], args.join(' '));
      assert.match(stderr, message);
    }
    assert.equal((await run(['mount'])).code, 2, 'and no other command is');
  });

  it('explains itself', async () => {
    const { code, stdout } = await run(['run', '--help']);
    assert.equal(code, 0);
    for (const flag of ['--env', '--env-file', '--volume', '--net', '--user', '--workdir', '--entrypoint', '--hostname', '--readonly', '--tty', '--runtime', '--backend', '--platform', '--plain-http', '125']) assert.ok(stdout.includes(flag), flag);
    const all = (await run(['--help'])).stdout;
    assert.ok(/^ +run \[options\]/m.test(all) && !all.includes('run-init') && / 125 +run:/.test(all));
  });

  it('has a first process that nobody can start by mistake', () => {
    const { status, stderr } = spawnSync(process.execPath, [BIN, 'run-init', '/no/such/plan'], { encoding: 'utf8' });
    assert.equal(status, 125);
    assert.match(stderr, /^lazypull: /);
  });
});
