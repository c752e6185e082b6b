import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { defaultCacheDir } from '../../../src/mount/data/folder.ts';
import { isRealRoot } from '../../../src/mount/host/processes.ts';

it('the cache is where the environment says', () => {
  assert.equal(defaultCacheDir({ LAZYPULL_CACHE_DIR: '/big/disk', XDG_CACHE_HOME: '/x', HOME: '/h' }), '/big/disk');
  assert.equal(defaultCacheDir({ LAZYPULL_CACHE_DIR: 'here', HOME: '/h' }), join(process.cwd(), 'here'));
});

it("root's cache is the machine's", { skip: isRealRoot() ? false : 'needs root' }, () => {
  assert.equal(defaultCacheDir({ LAZYPULL_CACHE_DIR: '', XDG_CACHE_HOME: '/x', HOME: '/h' }), '/var/cache/lazypull');
});

it("others' caches are their own", { skip: isRealRoot() ? 'root has the machine\'s' : false }, () => {
  assert.equal(defaultCacheDir({ XDG_CACHE_HOME: '/x', HOME: '/h' }), '/x/lazypull');
  assert.equal(defaultCacheDir({ XDG_CACHE_HOME: 'relative', HOME: '/h' }), '/h/.cache/lazypull');
  assert.equal(defaultCacheDir({}), join(homedir(), '.cache', 'lazypull'));
});
