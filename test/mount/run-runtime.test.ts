import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkRunsHere } from '../../src/mount/run/runs-here.ts';
import { findRuntime, parseVersion, startFailure } from '../../src/mount/run/runtime.ts';
import { hostPlatform } from '../../src/oci/platform.ts';

const RUNC = 'runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\nlibseccomp: 2.5.4\n';
const CRUN = 'crun version 1.8.1\ncommit: f8a0\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +SELINUX +CAP +SECCOMP +EBPF +YAJL\n';

describe('container runtimes', () => {
  let folder: string;
  const fake = (name: string, prints: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\nprintf '%s' '${prints}'\n`);
    chmodSync(join(folder, name), 0o755);
  };
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'lazypull-runtime-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('say their version and what they can do', () => {
    assert.deepEqual(parseVersion('runc', '/r', RUNC), { name: 'runc', path: '/r', version: '1.1.5+ds1', seccomp: true });
    assert.deepEqual(parseVersion('crun', '/c', CRUN), { name: 'crun', path: '/c', version: '1.8.1', seccomp: true });
    assert.deepEqual(parseVersion('runc', '/r', RUNC.replace(/^libseccomp.*/m, '')), { name: 'runc', path: '/r', version: '1.1.5+ds1', seccomp: false });
    assert.equal(parseVersion('crun', '/c', CRUN.replace('+SECCOMP', '')) instanceof Object && (parseVersion('crun', '/c', CRUN.replace('+SECCOMP', '')) as { seccomp: boolean }).seccomp, false);
    assert.match(String(parseVersion('runc', '/r', 'runc version 0.1.1\n')), /older than 1\.0/);
    assert.match(String(parseVersion('crun', '/c', 'crun version 0.19.1\n')), /older than 0\.20/);
    for (const text of ['', 'crun version 1.8', 'runc version', 'runc version one.two']) assert.match(String(parseVersion('runc', '/r', text)), /does not say/, text);
  });

  it('are found in PATH, runc first, and only if they are new enough', async () => {
    const env = { PATH: folder };
    fake('runc', 'runc version 0.0.9\n');
    fake('crun', CRUN);
    const warnings: string[] = [];
    assert.deepEqual(await findRuntime('auto', env, (text) => warnings.push(text), folder), { name: 'crun', path: join(folder, 'crun'), version: '1.8.1', seccomp: true });
    assert.match(warnings.join(), /^runc 0\.0\.9 is older than 1\.0 \(.*\): not used$/);
    await assert.rejects(findRuntime('runc', env), { code: 'UNSUPPORTED' });
    fake('runc', RUNC);
    assert.equal((await findRuntime('auto', env))?.name, 'runc');
    assert.equal((await findRuntime('crun', env, undefined, folder))?.name, 'crun');
    assert.equal(await findRuntime('none', env), undefined);
    mkdirSync(join(folder, 'unified'));
    writeFileSync(join(folder, 'unified', 'cgroup.controllers'), 'hugetlb\n');
    await assert.rejects(findRuntime('crun', env, undefined, folder), { code: 'UNSUPPORTED', message: /both versions/ });
    rmSync(join(folder, 'runc'));
    assert.equal(await findRuntime('auto', { PATH: folder }, (text) => warnings.push(text), folder).then((found) => found?.name === 'crun'), false);
    writeFileSync(join(folder, 'unified', 'cgroup.controllers'), '\n');
    assert.equal((await findRuntime('crun', env, undefined, folder))?.name, 'crun');
  });

  it('say in their own words why they did not start a program', () => {
    const runc = (message: string): string => `${JSON.stringify({ level: 'warning', msg: 'exec: nothing' })}\n${JSON.stringify({ level: 'error', msg: `runc run failed: unable to start container process: ${message}` })}\n`;
    const cases: readonly (readonly [string, number])[] = [
      [runc('exec: "nope": executable file not found in $PATH'), 127],
      [runc('exec: "/no/such": stat /no/such: no such file or directory'), 127],
      [runc('exec: "/etc/passwd": permission denied'), 126],
      [runc('error mounting "x" to rootfs: no such file or directory'), 125],
      [runc('unable to setup user: invalid argument'), 125],
      ['{"msg":"executable file `nope` not found in $PATH: No such file or directory","level":"error"}\n', 127],
      ['{"msg":"open executable: Permission denied","level":"error"}\n', 126],
      ['{"msg":"open executable: Operation not permitted","level":"error"}\n', 126],
      ['{"msg":"cgroups in hybrid mode not supported","level":"error"}\n', 125],
      ['', 125],
    ];
    for (const [log, code] of cases) assert.equal(startFailure(log), code, log);
  });

  it('run only what is for this machine, or what the machine has an emulator for', () => {
    const { os, architecture, variant } = hostPlatform();
    assert.equal(checkRunsHere({ os, architecture, variant }, folder), undefined);
    assert.equal(checkRunsHere({ os: undefined, architecture: undefined, variant: undefined }, folder), undefined);
    const other = architecture === 's390x' ? 'arm64' : 's390x';
    const emulator = other === 's390x' ? 'qemu-s390x' : 'qemu-aarch64';
    const check = (): string | undefined => checkRunsHere({ os: 'linux', architecture: other, variant: undefined }, join(folder, 'binfmt'));
    assert.throws(check, { code: 'UNSUPPORTED', message: new RegExp(`the image is for linux/${other}, and this machine is linux/`) });
    mkdirSync(join(folder, 'binfmt'));
    writeFileSync(join(folder, 'binfmt', emulator), 'disabled\n');
    assert.throws(check, { code: 'UNSUPPORTED' });
    writeFileSync(join(folder, 'binfmt', emulator), 'enabled\ninterpreter /usr/bin/qemu\n');
    assert.match(String(check()), new RegExp(`run in an emulator \\(${emulator}\\)`));
    assert.throws(() => checkRunsHere({ os: 'windows', architecture, variant: undefined }, join(folder, 'binfmt')), { code: 'UNSUPPORTED' });
  });
});
