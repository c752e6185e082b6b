import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMountProcess } from '../../src/cli/mount-process.ts';

test('only what the processes of a mount are started with goes without the command tree', () => {
  for (const argv of [['mount-daemon'], ['mount-daemon', 'serve'], ['mount-daemon', 'serve-remote']]) assert.ok(isMountProcess(argv), argv.join(' '));
  for (const argv of [[], ['mount'], ['mount-daemon', '--help'], ['mount-daemon', 'serve', '--debug'], ['mount-daemon', 'other'], ['--json', 'mount-daemon']]) assert.ok(!isMountProcess(argv), argv.join(' '));
});
