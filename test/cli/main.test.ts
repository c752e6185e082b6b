import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/cli/exit-codes.ts';
import { LazypullError, type ErrorCode } from '../../src/core/errors.ts';
import type { FormatEntry } from '../../src/core/format-entry.ts';
import { version } from '../../src/core/version.ts';
import { run } from './harness.ts';
import { tinyLayout } from './tiny.ts';

/** A format whose code fails to load: the quickest way to make a command fail with a given error. */
function failing(error: unknown): readonly FormatEntry[] {
  return [{ name: 'broken', summary: '', options: [], rewrites: true, load: () => Promise.reject(error) }];
}

describe('main', () => {
  it('prints the version', async () => {
    assert.deepEqual(await run(['--version']).then(({ code, stdout, stderr }) => [code, stdout, stderr]), [0, `${version}\n`, '']);
  });

  it('prints help on stdout when asked, with every exit code', async () => {
    const { code, stdout, stderr } = await run(['--help']);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    for (const verb of ['convert', 'index', 'inspect', 'ls', 'cat', 'extract', 'verify', 'copy', 'serve', 'completion']) assert.match(stdout, new RegExp(`^  ${verb} `, 'm'));
    for (const number of new Set(Object.values(EXIT))) assert.match(stdout, new RegExp(`^ +${number}  \\w`, 'm'));
  });

  it('prints help on stderr when there is no command', async () => {
    const { code, stdout, stderr } = await run([]);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^Usage: lazypull/);
  });

  it('has help for every command that mentions the global flags', async () => {
    for (const verb of ['convert', 'index', 'inspect', 'ls', 'cat', 'extract', 'verify', 'copy', 'serve', 'completion']) {
      const { code, stdout } = await run([verb, '--help']);
      assert.equal(code, 0);
      assert.match(stdout, /--json/);
      assert.doesNotMatch(stdout, /\bundefined\b/);
    }
  });

  it('answers wrong usage in one line with code 2', async () => {
    const cases: [string[], RegExp][] = [
      [['convrt'], /^lazypull: unknown command 'convrt' \(Did you mean convert\?\)\n$/],
      [['ls', '--lnog', 'x'], /^lazypull: unknown option '--lnog' \(Did you mean --long\?\)\n$/],
      [['convert', 'one'], /^lazypull: missing required argument 'target'\n$/],
      [['ls', 'a', 'b', 'c'], /^lazypull: too many arguments/],
      [['convert', 'a', 'b', '--jobs', '0'], /^lazypull: option '--jobs <number>' argument '0' is invalid\. It must be a whole number from 1 to 256\.\n$/],
      [['convert', 'a', 'b', '--max-layer-size', '10X'], /--max-layer-size.* It must be a size/],
      [['convert', 'a', 'b', '--chunk-size', '1'], /It must be from 1024 to/],
      [['convert', 'a', 'b', '--level', '10'], /from 0 to 9/],
      [['convert', 'a', 'b', '--format', 'zip'], /Allowed choices are estargz/],
      [['ls', 'oci:x:y', '--platform', '!'], /^lazypull: .*platform/],
      [['ls', './folder'], /oci:\.\/folder/],
      [['inspect', 'docker://127.0.0.1:1/Upper'], /must be lowercase/],
      [['cat', 'oci:x:y', '/f', '--json'], /no --json/],
      [['extract', 'oci:x:y'], /^lazypull: say where to: -o DIR, or --tar FILE\n$/],
      [['extract', 'oci:x:y', '-o', 'x', '--tar', 'y'], /two targets/],
      [['extract', 'oci:x:y', '--tar', '-', '--json'], /either the tar or the JSON/],
      [['extract', 'oci:x:y', '--tar', 'y', '--no-same-owner'], /names owners in any case/],
      [['completion', 'csh'], /bash, zsh, fish/],
      [['serve', 'x', '--listen', 'nowhere'], /not an address to listen on/],
      [['ls', 'oci:x', '--username', 'u'], /--password-stdin/],
    ];
    for (const [argv, message] of cases) {
      const { code, stdout, stderr } = await run(argv);
      assert.equal(code, 2, argv.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, message, argv.join(' '));
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    }
  });

  it('gives every class of error its exit code and one line', async (t) => {
    const layout = await tinyLayout(t);
    for (const [code, exit] of Object.entries(EXIT) as [ErrorCode, number][]) {
      const { code: got, stdout, stderr } = await run(['ls', `oci:${layout}:app`], { formats: failing(new LazypullError(code, 'it failed', { path: 'a\nb', offset: 7 })) });
      assert.equal(got, exit, code);
      assert.equal(stdout, '');
      assert.match(stderr, code === 'INTERNAL' ? /^lazypull: it failed \(a\\x0ab at offset 7\)\nlazypull: this should not happen/ : /^lazypull: it failed \(a\\x0ab at offset 7\)\n$/);
    }
  });

  it('calls anything else an internal error', async (t) => {
    const layout = await tinyLayout(t);
    for (const error of [new TypeError('x is\u001b[1m undefined'), 'a string', undefined]) {
      const { code, stderr } = await run(['ls', `oci:${layout}:app`], { formats: failing(error) });
      assert.equal(code, 70);
      assert.match(stderr, /^lazypull: internal error: /);
      assert.ok(!stderr.includes('\u001b'));
      assert.doesNotMatch(stderr, /^ +at /m);
    }
  });

  it('shows stacks and causes with --debug, before or after the command', async (t) => {
    const layout = await tinyLayout(t);
    const formats = failing(new LazypullError('IO', 'outer', { cause: new Error('middle', { cause: new RangeError('inner') }) }));
    for (const argv of [['--debug', 'ls', `oci:${layout}:app`], ['ls', `oci:${layout}:app`, '--debug']]) {
      const { code, stderr } = await run(argv, { formats });
      assert.equal(code, 9);
      assert.match(stderr, /^lazypull: outer\nLazypullError: outer\n +at [^]*^caused by: Error: middle\n[^]*^caused by: RangeError: inner\n/m);
    }
  });

  it('survives an error that causes itself', async (t) => {
    const layout = await tinyLayout(t);
    const error = new Error('round');
    error.cause = error;
    const { code } = await run(['ls', `oci:${layout}:app`, '--debug'], { formats: failing(error) });
    assert.equal(code, 70);
  });

  it('is cancelled by its signal', async (t) => {
    const layout = await tinyLayout(t);
    for (const argv of [['ls', `oci:${layout}:app`], ['convert', `oci:${layout}:app`, `oci:${layout}:x`], ['verify', `oci:${layout}:app`], ['copy', `oci:${layout}:app`, `oci:${layout}:x`], ['index', `oci:${layout}:app`], ['extract', `oci:${layout}:app`, '--tar', '-'], ['serve', layout]]) {
      const { code, stdout, stderr } = await run(argv, { signal: AbortSignal.abort() });
      assert.deepEqual([code, stdout, stderr], [130, '', 'lazypull: cancelled\n'], argv[0]);
    }
  });

  it('calls whatever breaks after cancelling the consequence of it', async (t) => {
    const layout = await tinyLayout(t);
    const stop = new AbortController();
    const formats: FormatEntry[] = [{ name: 'late', summary: '', options: [], rewrites: true, load: () => (stop.abort(), Promise.reject(new LazypullError('NETWORK', 'socket closed'))) }];
    const { code, stderr } = await run(['ls', `oci:${layout}:app`], { signal: stop.signal, formats, terminal: 'stderr', env: { NO_COLOR: '1' } });
    assert.equal(code, 130);
    assert.equal(stderr, 'lazypull: stopping and cleaning up; Ctrl-C again ends at once\nlazypull: cancelled\n');
  });

  it('colours errors on a terminal only, and not with NO_COLOR', async () => {
    const red = '\u001b[31mlazypull:\u001b[39m';
    assert.ok((await run(['nope'], { terminal: 'stderr' })).stderr.startsWith(red));
    assert.ok(!(await run(['nope'], { terminal: 'stdout' })).stderr.includes('\u001b'));
    assert.ok(!(await run(['nope'], { terminal: 'both', env: { NO_COLOR: '1' } })).stderr.includes('\u001b'));
    assert.ok(!(await run(['nope'], { terminal: 'both', env: { TERM: 'dumb' } })).stderr.includes('\u001b'));
    assert.ok((await run(['nope'], { terminal: 'stderr', env: { NO_COLOR: '' } })).stderr.startsWith(red));
  });
});
