import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { parseConfig, type ImageConfig } from '../../src/oci/documents.ts';
import { runConfig } from '../../src/mount/run/image-config.ts';
import { planProcess, processArgs } from '../../src/mount/run/process.ts';
import { stopSignal } from '../../src/mount/run/spec.ts';
import { resolveUser } from '../../src/mount/run/user.ts';

const config = (document: object): ImageConfig => parseConfig(Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [] }, ...document })));
const code = (wanted: string, match: RegExp) => (error: unknown): boolean => error instanceof LazypullError && error.code === wanted && match.test(error.message);

describe('the process of a container', () => {
  it('is entrypoint and command, as the image or the user has them', () => {
    const image = { entrypoint: ['/entry', '-a'], cmd: ['serve'] };
    assert.deepEqual(processArgs(image, { command: [] }), ['/entry', '-a', 'serve']);
    assert.deepEqual(processArgs(image, { command: ['x', 'y'] }), ['/entry', '-a', 'x', 'y']);
    assert.deepEqual(processArgs(image, { command: [], entrypoint: '/mine' }), ['/mine']);
    assert.deepEqual(processArgs(image, { command: ['z'], entrypoint: '/mine' }), ['/mine', 'z']);
    assert.deepEqual(processArgs(image, { command: ['z'], entrypoint: '' }), ['z']);
    assert.deepEqual(processArgs({ entrypoint: [], cmd: ['only'] }, { command: [] }), ['only']);
    assert.throws(() => processArgs(image, { command: [], entrypoint: '' }), code('USAGE', /no command/));
    assert.throws(() => processArgs({ entrypoint: [], cmd: [] }, { command: [] }), code('USAGE', /no command/));
    assert.throws(() => processArgs({ entrypoint: [''], cmd: [] }, { command: [] }), code('USAGE', /empty/));
    assert.throws(() => processArgs({ entrypoint: ['a\0b'], cmd: [] }, { command: [] }), code('USAGE', /NUL/));
  });

  it('starts where the image or the user says', () => {
    const cwd = (workingDir: string, workdir?: string): string => {
      const image = runConfig(config({ config: { WorkingDir: workingDir, Cmd: ['x'] } }));
      return planProcess(image, resolveUser('', '', ''), { command: [], env: [], hostname: 'h', terminal: false, ...(workdir === undefined ? {} : { workdir }) }).process.cwd;
    };
    assert.equal(cwd(''), '/');
    assert.equal(cwd('/app/'), '/app');
    assert.equal(cwd('app/../data//x'), '/data/x');
    assert.equal(cwd('/app', '/other/.'), '/other');
    assert.equal(cwd('../../etc'), '/etc');
    assert.throws(() => cwd('/app', 'relative'), code('USAGE', /begin with \//));
  });

  it('has TERM only with a terminal', () => {
    const image = runConfig(config({ config: { Cmd: ['x'] } }));
    const env = (terminal: boolean): readonly string[] => planProcess(image, resolveUser('', '', ''), { command: [], env: [], hostname: 'h', terminal }).process.env;
    assert.ok(env(true).includes('TERM=xterm') && !env(false).some((text) => text.startsWith('TERM=')));
    assert.ok(env(false).includes('HOSTNAME=h'));
  });
});

describe('the part of an image config that is about running', () => {
  it('is read with what Go and old builders make of nothing', () => {
    const empty = { env: [], entrypoint: [], cmd: [], user: '', workingDir: undefined, volumes: [], labels: {} };
    for (const part of [{}, { config: null }, { config: {} }, { config: { Env: null, Entrypoint: null, Cmd: null, User: '', WorkingDir: '', Volumes: null, Labels: null, StopSignal: null } }]) {
      const { env, entrypoint, cmd, user, volumes, labels, workingDir, stopSignal: signal } = runConfig(config(part));
      assert.deepEqual({ env, entrypoint, cmd, user, workingDir: workingDir || undefined, volumes, labels }, empty);
      assert.equal(signal, undefined);
    }
    const full = runConfig(config({ os: 'linux', architecture: 'arm64', variant: 'v8', config: { Cmd: 'word', Volumes: { '/b': {}, '/a': {} }, Labels: { k: 'v' }, ExposedPorts: { '80/tcp': {} }, Shell: ['/bin/sh', '-c'] } }));
    assert.deepEqual([full.cmd, full.volumes, full.labels, full.architecture, full.variant], [['word'], ['/a', '/b'], { k: 'v' }, 'arm64', 'v8']);
  });

  it('is refused when it has other types', () => {
    for (const part of [{ config: [] }, { config: { Env: 'A=b' } }, { config: { Env: [1] } }, { config: { Cmd: 7 } }, { config: { User: 0 } }, { config: { Volumes: ['/a'] } }, { config: { Labels: { a: 1 } } }]) {
      assert.throws(() => runConfig(config(part)), code('CORRUPT', /image config is malformed/), JSON.stringify(part));
    }
  });

  it('names its stop signal in several ways', () => {
    const cases: readonly (readonly [string | undefined, number])[] = [[undefined, 15], ['', 15], ['SIGQUIT', 3], ['quit', 3], ['9', 9], ['SIGRTMIN+3', 37], ['RTMIN+0', 34], ['RTMAX-1', 63], ['RTMAX-60', 15], ['0', 15], ['99', 15], ['SIGNOTHING', 15]];
    for (const [text, number] of cases) assert.equal(stopSignal(text), number, String(text));
  });
});
