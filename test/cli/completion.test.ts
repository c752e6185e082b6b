import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { after } from 'node:test';
import { builtinFormats } from '../../formats/builtin.ts';
import { run } from './harness.ts';

/** Why a test cannot run here, if it cannot. */
function missing(shell: string): string | false {
  return spawnSync(shell, ['-c', 'exit 0']).status === 0 ? false : `${shell} is not installed`;
}

const formats = builtinFormats.filter(({ indexOnly }) => !indexOnly).map(({ name }) => name);
const VERBS = ['convert', 'index', 'inspect', 'ls', 'cat', 'extract', 'verify', 'copy', 'serve', 'mount', 'run', 'unmount', 'ps', 'restart', 'prefetch', 'cache', 'completion', 'help'];

describe('completion', () => {
  let folder: string;
  const script = (shell: string): string => join(folder, `lazypull.${shell}`);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lazypull-completion-'));
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { code, stdout } = await run(['completion', shell]);
      assert.equal(code, 0);
      writeFileSync(script(shell), stdout);
    }
  });
  after(() => rmSync(folder, { recursive: true }));

  function bash(...words: string[]): string[] {
    const program = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _lazypull; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr, status } = spawnSync('bash', ['-c', program, 'bash', script('bash'), 'lazypull', ...words], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout.split('\n').filter((line) => line !== '').sort();
  }

  it('completes commands, flags and values in bash', { skip: missing('bash') }, () => {
    assert.deepEqual(bash(''), [...VERBS].sort());
    assert.deepEqual(bash('co'), ['completion', 'convert', 'copy']);
    assert.deepEqual(bash('help', 'ser'), ['serve']);
    assert.deepEqual(bash('convert', '--format', ''), formats.toSorted());
    assert.deepEqual(bash('--json', 'ls', '--l'), ['--long']);
    assert.deepEqual(bash('completion', ''), ['bash', 'fish', 'zsh']);
    assert.deepEqual(bash('cache', ''), ['gc', 'ls', 'rm']);
    assert.deepEqual(bash('mount', '--backend', ''), ['auto', 'erofs', 'fuse']);
    assert.deepEqual(bash('mount-'), [], 'what is not for users is not offered');
    assert.deepEqual(bash('copy', '--ref'), ['--referrers']);
    assert.deepEqual(bash('convert', 'oci:'), [], 'names of files are left to the shell');
    assert.ok(bash('--').includes('--version'));
    for (const flag of ['--chunk-size', '--keep-diff-id', '--plain-http', '--debug', '--help']) assert.ok(bash('convert', '--').includes(flag), flag);
  });

  it('is a script that zsh can read and run', { skip: missing('zsh') }, () => {
    assert.equal(spawnSync('zsh', ['-n', script('zsh')]).status, 0);
    // The completion system needs a terminal; its functions are replaced by ones that print what they are given.
    const program = `compdef() { print compdef "$@" }; source "$1"
      _describe() { print -l "\${(P@)2}" }
      _arguments() { [[ $1 == -C ]] && state=$want && words=(convert) || print -l -- "$@" }
      want=verb _lazypull; want=rest _lazypull`;
    const { stdout, stderr, status } = spawnSync('zsh', ['-fc', program, 'zsh', script('zsh')], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^compdef _lazypull lazypull$/m);
    assert.match(stdout, /^serve:Serve an OCI image layout/m);
    assert.match(stdout, new RegExp(`^--format\\[.*\\]:value:\\(${formats.join(' ')}\\)$`, 'm'));
    assert.match(stdout, /^--prefetch-list\[.*\]:file:_files$/m);
  });

  it('completes in fish', { skip: missing('fish') }, () => {
    const fish = (line: string): string[] => {
      const { stdout, stderr, status } = spawnSync('fish', ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', script('fish'), line], { encoding: 'utf8', env: { ...process.env, HOME: folder } });
      assert.equal(status, 0, stderr);
      return stdout.split('\n').map((row) => row.split('\t')[0] as string).filter((word) => word !== '');
    };
    assert.deepEqual(fish('lazypull ver'), ['verify']);
    assert.deepEqual(fish('lazypull convert --format '), formats.toSorted());
    assert.deepEqual(fish('lazypull completion '), ['bash', 'fish', 'zsh']);
    assert.deepEqual(fish('lazypull serve --read'), ['--read-only']);
  });
});
