import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { ChildProcess } from 'node:child_process';
import { hasHybridCgroups } from '../../src/mount/run/runtime.ts';
import { haveRoot, haveTools, run } from '../support/peers.ts';
import { containers, CRUN_REFUSES, eventually, leftovers, printed, type Container, type Wishes } from './run-trees.ts';

/** Containers for real, over a folder in place of a lazily mounted image: what they are, and that nothing stays of them. */

const RUNTIMES = ['runc', 'crun', 'none'] as const;
const TOOLS = { runc: ['runc', 'unshare', 'ldd'], crun: ['crun', 'unshare', 'ldd'], none: ['unshare', 'ldd'] } as const;

/** What waits for the folder that stands for an image, and is no mount of ours, is not among it. */
const RUNNING = /sleep 1000|--pid-file|run-driver|run-init/;

for (const runtime of RUNTIMES) {
  const usable = (t: TestContext, ...tools: readonly string[]): boolean => {
    if (!haveRoot(t) || !haveTools(t, ...TOOLS[runtime], ...tools)) return false;
    if (runtime !== 'crun' || !hasHybridCgroups()) return true;
    t.skip(CRUN_REFUSES);
    return false;
  };
  const container = (name: string, body: (box: Container) => Promise<void>): void => {
    test(`${runtime}: ${name}`, async (t) => {
      if (!usable(t)) return;
      const box = containers(t, runtime);
      await body(box);
      await box.nothingLeft();
    });
  };

  container('a process is what image and user say', async (box) => {
    assert.equal((await box.run({})).text, 'default\n');
    box.tree.configure({ Entrypoint: ['sh', '-c'], Cmd: ['echo cmd'], WorkingDir: '/srv/made/here', User: 'app', Env: ['PATH=/bin', 'FROM=image', 'BOTH=image'] });
    assert.equal((await box.run({})).text, 'cmd\n');
    const said = await box.run({ command: ['pwd; id; env; hostname; umask; echo $$; stat -c "%U %a" .'], hostname: 'box', env: ['BOTH=user', 'HERE', 'NOT_HERE', 'EMPTY='] });
    const lines = said.text.trim().split('\n');
    assert.deepEqual([lines[0], lines[1]], ['/srv/made/here', 'uid=1000(app) gid=1001(app) groups=1001(app),1002(more)']);
    for (const wanted of ['FROM=image', 'BOTH=user', 'HERE=from here', 'EMPTY=', 'HOME=/srv', 'HOSTNAME=box', 'PATH=/bin']) assert.ok(lines.includes(wanted), `${wanted}\n${said.text}`);
    assert.ok(!lines.some((line) => line.startsWith('NOT_HERE')) && !lines.some((line) => line.startsWith('TMPDIR')), 'nothing of ours is in its environment');
    assert.deepEqual(lines.slice(-4), ['box', '0022', '1', 'root 755']);
    assert.equal((await box.run({ entrypoint: 'id', command: ['-u'], user: '77' })).text, '77\n');
  });

  container('exit statuses are those of the program, or say why there is none', async (box) => {
    const code = async (command: string[], wishes: Wishes = {}): Promise<number | null> => (await box.run({ command, ...wishes })).code;
    assert.equal(await code(['sh', '-c', 'exit 42']), 42);
    assert.equal(await code(['sh', '-c', 'sh -c "kill -9 \\$\\$"']), 137);
    assert.equal(await code(['no-such-program']), 127);
    assert.equal(await code(['/no/such']), 127);
    assert.equal(await code(['/etc/passwd']), 126);
    assert.equal(await code(['/etc']), 126);
    assert.equal(await code(['id'], { user: 'nobody-here' }), 125);
    assert.equal(await code(['id'], { volumes: ['/no/such:/x'] }), 125);
    box.tree.configure({ Cmd: null });
    const nothing = await box.run({});
    assert.deepEqual([nothing.code, nothing.text], [125, '']);
    assert.match(nothing.stderr, /^lazypull: the image names no command: put one behind --$/m);
    box.tree.configure({ Cmd: ['id'] }, { architecture: process.arch === 'x64' ? 's390x' : 'amd64' });
    const foreign = await box.run({});
    assert.deepEqual([foreign.code, /the image is for linux\/\w+, and this machine is linux\//.test(foreign.stderr)], [125, true]);
  });

  container('what is written goes with it, and the image stays as it is', async (box) => {
    assert.equal(await box.sh('echo x > /srv/data/new; rm /srv/data/old; mv /srv/data /srv/moved; ls /srv/moved; cat /srv/moved/new'), 'new\nx\n');
    assert.equal(await box.sh('cat /data/old'), 'of the image\n');
    assert.deepEqual(readdirSync(join(box.tree.path, 'srv/data')), ['old']);
    const readonly = await box.run({ readonly: true, command: ['sh', '-c', 'touch /x /srv/data/x; echo shm > /dev/shm/x && cat /dev/shm/x'] });
    assert.deepEqual([readonly.code, readonly.text], [0, 'shm\n']);
    assert.match(readonly.stderr, /\/x.*Read-only file system/);
  });

  container('volumes are the machine\'s, the image\'s stay writable', async (box) => {
    const data = join(box.folder, 'data');
    mkdirSync(data);
    writeFileSync(join(data, 'file'), 'of the machine\n');
    const volumes = [`${data}:/mnt/data`, `${data}/file:/srv/data/old`, `${data}:/data/ro:ro`];
    assert.equal(await box.sh('cat /mnt/data/file /srv/data/old; echo more >> /srv/data/old; echo new > /mnt/data/new', { volumes }), 'of the machine\nof the machine\n');
    assert.equal(readFileSync(join(data, 'file'), 'utf8'), 'of the machine\nmore\n');
    assert.equal(readFileSync(join(data, 'new'), 'utf8'), 'new\n');
    assert.match((await box.run({ volumes, command: ['touch', '/srv/data/ro/x'] })).stderr, /Read-only file system/);
    box.tree.configure({ Volumes: { '/data': {}, '/not/there': {}, '/etc/passwd': {} } });
    chownSync(join(box.tree.path, 'srv/data'), 1000, 1001);
    chmodSync(join(box.tree.path, 'srv/data'), 0o750);
    assert.equal(await box.sh('stat -c "%u:%g %a" /srv/data /not/there', { readonly: true }), '1000:1001 750\n0:0 755\n');
    assert.equal(await box.sh('echo x > /data/new; echo y > /not/there/new; cat /srv/data/old /srv/data/new /not/there/new; touch /x 2>/dev/null || echo no', { readonly: true }), 'of the image\nx\ny\nno\n');
    assert.deepEqual([readdirSync(join(box.tree.path, 'srv/data')), readdirSync(data).sort()], [['old'], ['file', 'new']]);
  });

  container('it is alone with itself', async (box) => {
    const said = await box.sh('grep -E "^(Cap(Bnd|Eff)|Seccomp):" /proc/self/status; ls /proc | grep -c "^[0-9]"; cat /proc/net/dev | grep -c :; cat /proc/keys | head -c 1; echo x > /proc/sys/kernel/hostname || echo protected; cat /etc/hosts | grep -c localhost; ls /dev', { net: 'none' });
    const capabilities = runtime === 'none' ? '00000000a00425fb' : '00000000a80425fb';
    assert.match(said, new RegExp(`^CapEff:\\t${capabilities}\nCapBnd:\\t${capabilities}\n${runtime === 'none' ? 'Seccomp:\t0' : 'Seccomp:\t2'}\n[2-5]\n1\nprotected\n[12]\n`));
    for (const name of ['fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'tty', 'urandom', 'zero']) assert.ok(said.split('\n').includes(name), name);
    // The machine's disks are not to be had, neither by a node that it makes nor by one that the image has.
    assert.match((await box.run({ command: ['sh', '-c', 'mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk'] })).stderr, /Operation not permitted|Permission denied/);
    assert.equal((await run('mknod', [join(box.tree.path, 'disk'), 'b', '254', '0'])).code, 0);
    assert.match((await box.run({ command: ['head', '-c', '1', '/disk'] })).stderr, /Operation not permitted|Permission denied/);
    // With the machine's network it has the machine's name.
    assert.equal(await box.sh('hostname'), (await run('hostname', [])).text);
  });

  container('streams are passed on, to the byte and to the end', async (box) => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 256));
    const ran = await box.run({ command: ['cat'] }, { input: bytes });
    assert.ok(ran.code === 0 && ran.stdout.equals(bytes));
    const parted = await box.run({ command: ['sh', '-c', 'echo out; echo err >&2; grep flags /proc/self/fdinfo/0'] });
    assert.match(parted.text, /^out\nflags:\t0*(?:2)?\n$/);
    assert.match(parted.stderr, /^err$/m);
    const endless = await run('/bin/sh', ['-c', `"$@" 2>/dev/null | head -c 20`, 'sh', process.execPath, ...driver(box, { runtime, command: ['yes'] })], { env: { TMPDIR: box.folder }, timeout: 30_000 });
    assert.equal(endless.text, 'y\n'.repeat(10));
  });

  container('signals reach it, once each', async (box) => {
    const script = `n=0; trap 'n=$((n+1)); echo usr1 $n' USR1; trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done`;
    const ran = await box.run({ command: ['sh', '-c', script] }, { started: (child) => void sendInTurn(child, [['ready', 'SIGUSR1'], ['usr1 1', 'SIGHUP'], ['hup', 'SIGTERM']]) });
    assert.deepEqual([ran.code, ran.text], [9, 'ready\nusr1 1\nhup\nterm\n']);
    const stubborn = await box.run({ command: ['sh', '-c', 'trap "" INT TERM; echo ready; while :; do sleep 0.05; done'] }, { started: (child) => void printed(child, 'ready').then(() => thrice(child)) });
    assert.equal(stubborn.code, 137);
  });

  container('it goes with whoever is killed', async (box) => {
    const forever = { command: ['sh', '-c', 'echo ready; exec sleep 1000'] };
    // What was started: the runtime, or the shell that waits for the first process.
    const ran = await box.run(forever, { started: (child) => void printed(child, 'ready').then(() => process.kill(launchedBy(box), 'SIGKILL')) });
    assert.equal(ran.code, 137);
    await box.nothingLeft();
    // Us. The folder in place of an image is no mount of ours, and stays mounted until the next run.
    const killed = await box.run(forever, { started: (child) => void printed(child, 'ready').then(() => child.kill('SIGKILL')) });
    assert.equal(killed.signal, 'SIGKILL');
    await eventually(() => leftovers(box.folder).filter((what) => what.startsWith('process') && RUNNING.test(what)));
    assert.equal(await box.sh('echo next'), 'next\n');
  });

  container('an image cannot reach out of it', async (box) => {
    const outside = join(box.folder, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'file'), 'untouched\n');
    const up = '../'.repeat(12) + outside.slice(1);
    for (const [target, name] of [[up, 'proc'], [`${up}/dev`, 'dev'], [up, 'sys'], [`${up}/file`, 'etc/hosts'], [`${up}/new`, 'etc/resolv.conf'], [up, 'mnt'], [`${up}/cwd`, 'cwd'], [`${up}/file`, 'etc/shadow']] as const) {
      symlinkSync(target, join(box.tree.path, name));
    }
    rmSync(join(box.tree.path, 'etc/passwd'));
    symlinkSync(`${up}/file`, join(box.tree.path, 'etc/passwd'));
    box.tree.configure({ WorkingDir: '/cwd/deep', Volumes: { '/mnt/volume': {} } });
    const ran = await box.run({ command: ['sh', '-c', 'echo x > /etc/hosts; cat /etc/shadow; pwd'], volumes: [`${box.tree.path}/etc:/mnt/etc`] });
    assert.ok(ran.code === 0 || ran.code === 125, `${ran.code}\n${ran.stderr}`);
    assert.deepEqual([readdirSync(outside), readFileSync(join(outside, 'file'), 'utf8')], [['file'], 'untouched\n']);
    assert.ok(!ran.text.includes('untouched'));
  });

  test(`${runtime}: a terminal of its own`, async (t) => {
    if (!usable(t, 'script', 'stty')) return;
    const box = containers(t, runtime);
    const inner = [process.execPath, ...driver(box, { runtime, terminal: true, command: ['sh', '-c', 'until stty size | grep "33 111"; do sleep 0.05; done; test -t 0 && test -t 1 && echo tty; echo $TERM; exit 6'] })];
    const quoted = inner.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    const ran = await run('script', ['--quiet', '--return', '--command', `stty rows 33 cols 111; ${quoted}`, '/dev/null'], { env: { TMPDIR: box.folder, SHELL: '/bin/sh' } });
    assert.equal(ran.code, 6, ran.text);
    assert.match(ran.text, /33 111\r\n(?:.*\r\n)*?tty\r\nxterm\r\n/);
    assert.equal((await box.run({ terminal: true })).code, 125, 'standard input is a pipe');
    await box.nothingLeft();
  });

  const rootless = (name: string, before: readonly string[]): void => {
    test(`${runtime}: without root, ${name}`, async (t) => {
      if (!usable(t, 'setpriv')) return;
      const allowed = await run('setpriv', [...NOBODY, 'unshare', '-Urm', 'true']);
      if (allowed.code !== 0) return t.skip(`no user namespaces: ${allowed.stderr.trim()}`);
      const box = containers(t, runtime, before);
      // Whoever is root inside owns the image's files, as in a mount that is made inside.
      if (before[0] === 'setpriv') {
        for (const folder of [box.folder, join(box.tree.path, '..')]) chmodSync(folder, 0o755);
        await run('chown', ['-hR', '65534:65534', box.folder, box.tree.path]);
      }
      assert.equal(await box.sh('id -u; echo x > /etc/new; mkdir /srv/data/sub; mv /srv/data /srv/data2; ls /srv/data2; hostname', { hostname: 'box' }), '0\nold\nsub\nbox\n');
      assert.deepEqual([(await box.run({ command: ['sh', '-c', 'exit 7'] })).code, (await box.run({ command: ['none'] })).code], [7, 127]);
      const foreign = await box.run({ command: ['id'], user: 'app' });
      assert.deepEqual([foreign.code, /do not exist in this user namespace/.test(foreign.stderr)], [125, true]);
      const ran = await box.run({ command: ['sh', '-c', 'trap "echo term; exit 9" TERM; echo ready; while :; do sleep 0.05; done'] }, { started: (child) => void sendInTurn(child, [['ready', 'SIGTERM']]) });
      assert.deepEqual([ran.code, ran.text], [9, 'ready\nterm\n']);
      const killed = await box.run({ command: ['sh', '-c', 'echo ready; exec sleep 1000'] }, { started: (child) => void printed(child, 'ready').then(() => child.kill('SIGKILL')) });
      assert.equal(killed.signal, 'SIGKILL');
      await eventually(() => leftovers(box.folder).filter((what) => what.startsWith('process') && RUNNING.test(what)));
      await box.run({ command: ['id'] });
      await box.nothingLeft();
    });
  };
  rootless('as root of a user namespace', ['unshare', '-Urm', '--']);
  rootless('as anybody', ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--']);
}

const NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups', '--'];

function driver(box: Container, wishes: Wishes): string[] {
  return [join(import.meta.dirname, '..', 'mount', 'run-driver.js'), box.tree.path, JSON.stringify(wishes)];
}

async function sendInTurn(child: ChildProcess, steps: readonly (readonly [text: string, signal: NodeJS.Signals])[]): Promise<void> {
  const waits = steps.map(([text]) => printed(child, text));
  for (const [i, [, signal]] of steps.entries()) {
    await waits[i];
    child.kill(signal);
  }
}

async function thrice(child: ChildProcess): Promise<void> {
  for (let i = 0; i < 3; i++) {
    child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Number of what a run has started, by its record. */
function launchedBy(box: Container): number {
  const [name] = readdirSync(box.folder).filter((entry) => entry.startsWith('lazypull-run-'));
  const record = JSON.parse(readFileSync(join(box.folder, name ?? '', 'run.json'), 'utf8')) as { launched: { pid: number } };
  return record.launched.pid;
}
