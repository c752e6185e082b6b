import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { resolveUser } from '../../src/mount/run/user.ts';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1000::/home/app:/bin/sh
1000:x:7:8::/seven:/bin/sh
homeless:x:33:33::
broken:x:abc:1::/x:
short:x
+nis::::::
`;
const GROUP = `root:x:0:
tty:x:5:app
wheel:x:10:root,app, spaced
app:x:1000:
2000:x:42:
`;

const CASES: readonly (readonly [spec: string, uid: number, gid: number, groups: readonly number[], home: string])[] = [
  ['', 0, 0, [0, 10], '/root'],
  ['root', 0, 0, [0, 10], '/root'],
  ['0', 0, 0, [0, 10], '/root'],
  ['app', 1000, 1000, [5, 10, 1000], '/home/app'],
  // The first entry that has the name or the number.
  ['1000', 1000, 1000, [5, 10, 1000], '/home/app'],
  ['7', 7, 8, [8], '/seven'],
  ['app:', 1000, 1000, [5, 10, 1000], '/home/app'],
  [':tty', 0, 5, [5], '/root'],
  ['app:tty', 1000, 5, [5], '/home/app'],
  ['app:77', 1000, 77, [77], '/home/app'],
  ['app:2000', 1000, 42, [42], '/home/app'],
  ['1234', 1234, 0, [0], '/'],
  ['1234:5', 1234, 5, [5], '/'],
  ['1234:wheel', 1234, 10, [10], '/'],
  ['homeless', 33, 33, [33], '/'],
  ['2147483647:2147483647', 2147483647, 2147483647, [2147483647], '/'],
];

describe('the user of a container', () => {
  for (const [spec, uid, gid, groups, home] of CASES) {
    it(`${JSON.stringify(spec)} is ${uid}:${gid}`, () => {
      const user = resolveUser(spec, PASSWD, GROUP);
      assert.deepEqual([user.uid, user.gid, user.groups, user.home], [uid, gid, groups, home]);
    });
  }

  it('needs no files when it is a number', () => {
    assert.deepEqual(resolveUser('5:6', '', ''), { uid: 5, gid: 6, groups: [6], home: '/', name: undefined });
    assert.deepEqual(resolveUser('', '', ''), { uid: 0, gid: 0, groups: [0], home: '/', name: undefined });
  });

  it('is refused when it is a name without an entry, or no number', () => {
    const refused: readonly (readonly [string, RegExp])[] = [
      ['nobody', /has no user nobody/], ['app:nogroup', /has no group nogroup/], ['broken', /has no user broken/], ['-1', /user -1 is not a number from 0/], ['2147483648', /not a number from 0 to 2147483647/],
      ['0:4294967295', /group 4294967295 is not/], ['1e3', /has no user 1e3/], ['a:b:c', /has no user a/],
    ];
    for (const [spec, message] of refused) {
      assert.throws(() => resolveUser(spec, PASSWD, GROUP), (error) => error instanceof LazypullError && error.code === 'USAGE' && message.test(error.message), spec);
    }
  });

  it('never comes out as anything but ids, whatever the files hold', () => {
    fc.assert(fc.property(fc.string(), fc.array(fc.string()), fc.array(fc.string()), (spec, passwd, group) => {
      try {
        const { uid, gid, groups } = resolveUser(spec, passwd.join('\n'), group.join('\n'));
        for (const id of [uid, gid, ...groups]) assert.ok(Number.isSafeInteger(id) && id >= 0 && id < 2 ** 31);
        assert.ok(groups.includes(gid));
      } catch (error) {
        assert.ok(error instanceof LazypullError);
      }
    }));
  });
});
