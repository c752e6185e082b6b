import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LazypullError } from '../../src/core/errors.ts';
import { checkVolumes, cleanPath, parseVolume } from '../../src/mount/run/volumes.ts';

const usage = (match: RegExp) => (error: unknown): boolean => error instanceof LazypullError && error.code === 'USAGE' && match.test(error.message);

describe('volumes', () => {
  it('are HOST:CONTAINER with ro or rw', () => {
    const volume = (text: string): unknown[] => Object.values(parseVolume(text, '/here'));
    assert.deepEqual(volume('/a:/b'), ['/a', '/b', false]);
    assert.deepEqual(volume('/a/:/b/../c/:ro'), ['/a', '/c', true]);
    assert.deepEqual(volume('./d:/x:rw'), ['/here/d', '/x', false]);
    assert.deepEqual(volume('../d:/x'), ['/d', '/x', false]);
    assert.deepEqual(volume('.:/x'), ['/here', '/x', false]);
  });

  it('are refused when they are anything else', () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ['/a', /where in the container/], ['/a:b', /must begin with/], ['data:/b', /no names/], [':/b', /no names/], ['.hidden:/b', /no names/], ['/a:/b:rx', /unknown option rx/], ['/a:/b:ro,rw', /unknown option/],
      ['/a:/b:ro:x', /too many colons/], ['/a:/', /root of the container/], ['/a:/b/..', /root of the container/], ['/a:/b\0', /NUL/],
    ];
    for (const [text, message] of cases) assert.throws(() => parseVolume(text, '/here'), usage(message), text);
  });

  it('have to be there, and at one place only once', () => {
    const folder = mkdtempSync(join(tmpdir(), 'lazypull-volumes-'));
    try {
      checkVolumes([parseVolume(`${folder}:/a`, '/'), parseVolume(`${folder}:/b`, '/')]);
      assert.throws(() => checkVolumes([parseVolume(`${folder}/none:/a`, '/')]), usage(/no such file or folder on this machine \(.*none\)/));
      assert.throws(() => checkVolumes([parseVolume(`${folder}:/a`, '/'), parseVolume(`${folder}:/a/`, '/')]), usage(/two volumes at \/a/));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('have clean paths', () => {
    for (const [path, clean] of [['', '/'], ['/', '/'], ['a', '/a'], ['/a/', '/a'], ['//a/./b//', '/a/b'], ['/../../x', '/x']] as const) assert.equal(cleanPath(path), clean);
  });
});
