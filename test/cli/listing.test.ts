import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listedEntry, longColumns, modeText, terminalName, timeJson, timeText } from '../../src/cli/listing.ts';
import { decodeName } from '../../src/core/bytes.ts';
import type { FifoNode, FileNode, RegularNode } from '../../src/core/types.ts';

const base = { mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map<string, Uint8Array>() };
const fifo = (mode: number): FifoNode => ({ ...base, mode, type: 'fifo' });
const file: RegularNode = { ...base, type: 'file', size: 12, extents: [] };

describe('listing', () => {
  it('shows permissions as ls does', () => {
    const modes: [number, string][] = [[0, 'p---------'], [0o755, 'prwxr-xr-x'], [0o4755, 'prwsr-xr-x'], [0o4644, 'prwSr--r--'], [0o2711, 'prwx--s--x'], [0o2600, 'prw---S---'], [0o1777, 'prwxrwxrwt'], [0o1776, 'prwxrwxrwT'], [0o7777, 'prwsrwsrwt']];
    for (const [mode, text] of modes) assert.equal(modeText(fifo(mode)), text);
    const types: [FileNode, string][] = [
      [{ ...base, type: 'directory', children: new Map() }, 'd'], [file, '-'], [{ ...base, type: 'symlink', target: 'x' }, 'l'],
      [{ ...base, type: 'char', major: 1, minor: 3 }, 'c'], [{ ...base, type: 'block', major: 8, minor: 0 }, 'b'],
    ];
    for (const [node, letter] of types) assert.equal(modeText(node)[0], letter);
  });

  it('keeps strangers from writing to the terminal', () => {
    assert.equal(terminalName('a\u001b[31m\nb\u009b'), 'a\\x1b[31m\\x0ab\\x9b');
    assert.equal(terminalName(decodeName(Buffer.from([0x61, 0xff, 0xe9, 0x62]))), 'a\\xff\\xe9b');
    assert.equal(terminalName('naïve 名前 😀'), 'naïve 名前 😀');
  });

  it('prints any time that an archive can hold', () => {
    assert.equal(timeText({ seconds: 1_704_067_200, nanoseconds: 5 }), '2024-01-01 00:00:00');
    assert.equal(timeText({ seconds: -1, nanoseconds: 0 }), '1969-12-31 23:59:59');
    assert.equal(timeText({ seconds: 2 ** 53 - 1, nanoseconds: 0 }), '@9007199254740991');
    assert.equal(timeText({ seconds: 1e12, nanoseconds: 0 }), '@1000000000000');
    assert.equal(timeJson({ seconds: 0, nanoseconds: 0 }), '1970-01-01T00:00:00Z');
    assert.equal(timeJson({ seconds: 1, nanoseconds: 500_000_000 }), '1970-01-01T00:00:01.5Z');
    assert.equal(timeJson({ seconds: 1, nanoseconds: 7 }), '1970-01-01T00:00:01.000000007Z');
    assert.equal(timeJson({ seconds: -(2 ** 53) + 1, nanoseconds: 0 }), '@-9007199254740991');
  });

  it('lists sizes and device numbers', () => {
    assert.deepEqual(longColumns(file), ['-rw-r--r--', '0:0', '12', '1970-01-01 00:00:00']);
    assert.deepEqual(longColumns({ ...base, uid: 1000, gid: 100, type: 'char', major: 1, minor: 3 })[2], '1,3');
  });

  it('describes an entry as JSON', () => {
    assert.deepEqual(listedEntry('a', { ...file, mode: 0o4, xattrs: new Map([['user.x', Uint8Array.of(0, 255)]]) }), {
      path: 'a', type: 'file', mode: '0004', uid: 0, gid: 0, mtime: '1970-01-01T00:00:00Z', size: 12, xattrs: { 'user.x': 'AP8=' },
    });
    assert.equal(listedEntry('l', { ...base, type: 'symlink', target: '../x' }).target, '../x');
  });
});
