import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { root } from '../support/root.ts';

/** A folder that is gone after the test. */
export async function tempFolder(t: Pick<TestContext, 'after'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lazypull-cli-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of the tiny layout (images `app`, `docker`, `mixed`) to write into. */
export async function tinyLayout(t: Pick<TestContext, 'after'>): Promise<string> {
  const layout = join(await tempFolder(t), 'layout');
  await cp(join(root, 'fixtures', 'corpus', 'tiny'), layout, { recursive: true });
  return layout;
}
