import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { DEFAULT_PATH, mergeEnvironment, parseAssignment, parseEnvFile, valueOf } from '../../src/mount/run/environment.ts';

const usage = (match: RegExp) => (error: unknown): boolean => error instanceof LazypullError && error.code === 'USAGE' && match.test(error.message);

describe('variables for a container', () => {
  it('are NAME=value, NAME= or NAME', () => {
    const own = { HERE: 'from here', EMPTY: '' };
    assert.deepEqual(parseAssignment('A=b', own), ['A', 'b']);
    assert.deepEqual(parseAssignment('A=', own), ['A', '']);
    assert.deepEqual(parseAssignment('A=b=c d', own), ['A', 'b=c d']);
    assert.deepEqual(parseAssignment('HERE', own), ['HERE', 'from here']);
    assert.deepEqual(parseAssignment('EMPTY', own), ['EMPTY', '']);
    assert.deepEqual(parseAssignment('NOT_HERE', own), ['NOT_HERE', undefined]);
    for (const text of ['', '=x', 'A=\0']) assert.throws(() => parseAssignment(text, own), usage(/no name of a variable/), JSON.stringify(text));
    assert.throws(() => parseAssignment('A B=c', own), usage(/blanks/));
  });

  it('come from files, which say where they are wrong', () => {
    const text = '\ufeffA=1\r\n# comment\n\n  B=two words \nHERE\nC="quoted"\n';
    assert.deepEqual(parseEnvFile(text, { HERE: 'x' }, 'f'), [['A', '1'], ['B', 'two words '], ['HERE', 'x'], ['C', '"quoted"']]);
    assert.throws(() => parseEnvFile('A=1\nB C=2\n', {}, 'vars'), usage(/vars line 2/));
  });

  it('are merged: image over defaults, the user over both, each name once', () => {
    const { env, ignored } = mergeEnvironment({
      image: ['PATH=/image', 'A=image', 'B=image', 'A=image again', 'no assignment', '=x', 'N=\0'],
      defaults: [['HOSTNAME', 'box'], ['B', 'default']],
      wanted: [['A', 'user'], ['C', 'user'], ['B', undefined], ['C', 'later']],
      home: '/home/app',
    });
    assert.deepEqual(env, ['PATH=/image', 'HOSTNAME=box', 'A=user', 'C=later', 'HOME=/home/app']);
    assert.deepEqual(ignored, ['no assignment', '=x', 'N=\0']);
  });

  it('have a PATH in any case, and the HOME that the image or the user says', () => {
    const home = (image: string[], wanted: [string, string][] = []): readonly string[] => mergeEnvironment({ image, defaults: [], wanted, home: '/root' }).env;
    assert.deepEqual(home([]), [`PATH=${DEFAULT_PATH}`, 'HOME=/root']);
    assert.equal(valueOf(home(['HOME=/image']), 'HOME'), '/image');
    assert.equal(valueOf(home(['HOME=']), 'HOME'), '/root');
    assert.equal(valueOf(home(['HOME=/image'], [['HOME', '/user']]), 'HOME'), '/user');
    assert.equal(valueOf(['AB=1', 'A=2'], 'A'), '2');
    assert.equal(valueOf(['AB=1'], 'A'), undefined);
  });
});
