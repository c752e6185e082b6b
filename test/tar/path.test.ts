import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { LazypullError } from '../../src/core/errors.ts';
import type { TarType } from '../../src/tar/entry.ts';
import { checkPath, cleanPath } from '../../src/tar/path.ts';

const check = (path: string, type: TarType = 'file', linkName = ''): void => checkPath({ path, type, linkName, offset: 1536 });
const refused = (path: string, type: TarType = 'file', linkName = ''): void => {
  assert.throws(() => check(path, type, linkName), (error: LazypullError) => error.code === 'CORRUPT' && error.offset === 1536, `${path} ${type} ${linkName}`);
};

describe('cleanPath', () => {
  it('gives one name to each place', () => {
    const cases: [string, string][] = [
      ['', ''], ['/', ''], ['.', ''], ['./', ''], ['//', ''], ['a', 'a'], ['/a', 'a'], ['./a', 'a'], ['a/', 'a'], ['./a/', 'a'], ['a//b', 'a/b'], ['a/./b', 'a/b'],
      ['a/../b', 'b'], ['../a', 'a'], ['a/..', ''], ['a/../../b', 'b'], ['..', ''], ['...', '...'], ['a/..b', 'a/..b'], ['.wh.a', '.wh.a'], ['a/.b/c.', 'a/.b/c.'], [' ', ' '],
    ];
    for (const [raw, clean] of cases) assert.equal(cleanPath(raw), clean, JSON.stringify(raw));
  });
  it('agrees with a rooted normalize', () => {
    const path = fc.array(fc.constantFrom('a', 'bc', '.', '..', '', '...', '.x', '\udcff'), { maxLength: 8 }).map((parts) => parts.join('/'));
    fc.assert(fc.property(path, (raw) => {
      const clean = cleanPath(raw);
      assert.equal(clean, posix.normalize(`/${raw}`).replace(/^\/+|\/+$/g, ''));
      assert.equal(cleanPath(clean), clean);
    }), { numRuns: 2000 });
  });
});

describe('checkPath', () => {
  it('accepts what stays in the layer', () => {
    for (const path of ['a', './a', '/a', 'a/../b', 'a/b/../../c', '..a', 'a/...', 'x'.repeat(255), `${'é'.repeat(127)}/a`, '\udcff'.repeat(255)]) check(path);
    check('./', 'directory');
    check('', 'directory');
    check('a/..', 'directory');
    check(`${'x'.repeat(255)}/`.repeat(16));
    check('a', 'hardlink', './b');
    check('a', 'symlink', '../../../etc/passwd');
    check('a', 'symlink', 'x'.repeat(4096));
  });
  it('refuses climbing names and hard links', () => {
    for (const path of ['..', '../a', './../a', '/../a', 'a/../../b', 'a/../..', 'a/./../../a/b']) refused(path);
    refused('..', 'directory');
    refused('a', 'hardlink', '../b');
  });
  it('refuses names that no file system takes', () => {
    refused('a\0b');
    refused('x'.repeat(256));
    refused(`a/${'é'.repeat(128)}`);
    refused('\udcff'.repeat(256));
    refused(`${'x'.repeat(255)}/`.repeat(16) + 'y');
    refused('\u{1f40b}'.repeat(64));
  });
  it('refuses roots that are no directory and links to nothing', () => {
    for (const path of ['', '/', './', 'a/..']) refused(path);
    refused('/', 'symlink', 'a');
    refused('a', 'symlink', '');
    refused('a', 'symlink', 'b\0c');
    refused('a', 'symlink', 'x'.repeat(4097));
    refused('a', 'hardlink', '');
    refused('a', 'hardlink', './');
    refused('a', 'hardlink', 'b\0c');
  });
  it('names the path, shortened', () => {
    assert.throws(() => check('x'.repeat(5000)), (error: LazypullError) => error.message.length < 400 && error.path?.startsWith('xxx') === true);
  });
});
