import assert from 'node:assert/strict';
import { it } from 'node:test';
import { formatTable } from '../../src/cli/table.ts';

it('aligns columns and leaves no trailing spaces', () => {
  const table = formatTable([{ title: 'LAYER' }, { title: 'SIZE', align: 'right' }, { title: 'NOTE' }], [['a', '1.0 MB', ''], ['longer name', '12 B', 'kept']]);
  assert.equal(table, ['LAYER          SIZE  NOTE', 'a            1.0 MB', 'longer name    12 B  kept'].join('\n'));
});

it('counts code points, not UTF-16 units', () => {
  assert.equal(formatTable([{ title: 'N' }, { title: 'X' }], [['𝄞', 'y'], ['ab', 'z']]), ['N   X', '𝄞   y', 'ab  z'].join('\n'));
});
