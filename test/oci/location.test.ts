import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { formatLocation, locationTarget, openLocation, parseLocation } from '../../src/oci/location.ts';
import { pushImage, rejectsWith } from './store-contract.ts';

const scratch = mkdtempSync(join(tmpdir(), 'lazypull-location-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
const DIGEST = `sha256:${'5'.repeat(64)}` as const;

describe('locations', () => {
  it('are layouts with the oci: prefix', () => {
    const cases = [
      ['oci:./layout', { folder: './layout' }, ''],
      ['oci:./layout:app', { folder: './layout', name: 'app' }, 'app'],
      ['oci:/srv/images:app-1.0_x', { folder: '/srv/images', name: 'app-1.0_x' }, 'app-1.0_x'],
      [`oci:layout@${DIGEST}`, { folder: 'layout', digest: DIGEST }, DIGEST],
      [`oci:layout:app@${DIGEST}`, { folder: 'layout', name: 'app', digest: DIGEST }, DIGEST],
      ['oci:layout:team/app:1.0', { folder: 'layout', name: 'team/app:1.0' }, 'team/app:1.0'],
      ['oci:layout:localhost:5000/app:1.0', { folder: 'layout', name: 'localhost:5000/app:1.0' }, 'localhost:5000/app:1.0'],
      ['oci:me@home/images:app', { folder: 'me@home/images', name: 'app' }, 'app'],
      ['oci:with space/images', { folder: 'with space/images' }, ''],
    ] as const;
    for (const [text, expected, target] of cases) {
      const location = parseLocation(text);
      assert.deepEqual(location, { transport: 'oci', ...expected }, text);
      assert.equal(formatLocation(location), text);
      assert.equal(locationTarget(location), target);
    }
  });

  it('are registries otherwise', () => {
    const cases = [
      ['docker://127.0.0.1:5000/app:1', 'docker://127.0.0.1:5000/app:1', '1'],
      ['127.0.0.1:5000/app:1', 'docker://127.0.0.1:5000/app:1', '1'],
      ['localhost/a/b', 'docker://localhost/a/b:latest', 'latest'],
      ['alpine', 'docker://docker.io/library/alpine:latest', 'latest'],
      ['oci/app:1', 'docker://docker.io/oci/app:1', '1'],
      [`ghcr.io/a/b:t@${DIGEST}`, `docker://ghcr.io/a/b:t@${DIGEST}`, DIGEST],
      [`ghcr.io/a/b@${DIGEST}`, `docker://ghcr.io/a/b@${DIGEST}`, DIGEST],
      ['dirt:1.0', 'docker://docker.io/library/dirt:1.0', '1.0'],
    ] as const;
    for (const [text, canonical, target] of cases) {
      const location = parseLocation(text);
      assert.equal(location.transport, 'docker', text);
      assert.equal(formatLocation(location), canonical);
      assert.deepEqual(parseLocation(canonical), location);
      assert.equal(locationTarget(location), target);
    }
  });

  it('of other tools are refused with advice', () => {
    for (const text of ['oci-archive:x.tar', 'oci-archive:x.tar:tag', 'docker-archive:x.tar', 'docker-daemon:app:1', 'dir:/x', 'containers-storage:app', 'containerd:app']) {
      assert.throws(() => parseLocation(text), (error: unknown) => error instanceof LazypullError && error.code === 'UNSUPPORTED' && error.message.includes(text), text);
    }
  });

  it('that make no sense are refused', () => {
    const cases = ['', 'oci:', 'oci::tag', 'oci:dir:', 'oci:dir:-x', 'oci:dir:a b', 'oci:dir:../x', 'oci://host/x', 'oci:dir@sha256:123', `oci:dir@md5:${'0'.repeat(32)}`, `oci:@${DIGEST}`,
      './layout', '/srv/layout:app', '../x', '~/layout', 'https://ghcr.io/a/b', 'HTTP://x', 'file:///x', 'docker://', 'docker://UPPER/', 'host/Upper:1', 'a b', 'x\n'];
    for (const text of cases) assert.throws(() => parseLocation(text), { name: 'LazypullError', code: 'USAGE' }, text);
    assert.throws(() => parseLocation('./layout:app'), /oci:\.\/layout:app/);
  });

  it('that hold a password are refused without repeating it', () => {
    for (const text of ['https://me:hunter2@host/a:1', 'docker://me:hunter2@host:5000/a', 'me:hunter2@host/a', 'me:hun@ter2@host/a', 'me:hunter2/@host/a', `me:hunter2@host/a@${DIGEST}`, 'dir:me:hunter2@x']) {
      assert.throws(() => parseLocation(text), (error: Error) => !/hun|ter2/.test(error.message), text);
    }
    assert.throws(() => parseLocation('Host/App:1@sha256:12'), /"Host\/App:1@sha256:12" is not/);
  });

  it('never end in anything but a LazypullError, and read back as they are written', () => {
    const text = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ maxLength: 60 }).map((rest) => `oci:${rest}`), fc.stringMatching(/^(oci:)?[a-z./:@0-9-]{0,40}$/));
    fc.assert(fc.property(text, (input) => {
      try {
        const location = parseLocation(input);
        assert.deepEqual(parseLocation(formatLocation(location)), location);
      } catch (error) {
        assert.ok(error instanceof LazypullError, String(error));
      }
    }), { numRuns: 2000 });
  });

  it('open the stores they name', async () => {
    const text = `oci:${join(scratch, 'a')}:app`;
    await rejectsWith(openLocation(text), 'NOT_FOUND');
    const { store, reference } = await openLocation(text, { create: true });
    const { manifest } = await pushImage(store, 1);
    await store.tag(manifest, reference);
    await store.close();
    const again = await openLocation(`oci:${join(scratch, 'a')}`);
    assert.equal((await again.store.resolve(again.reference)).digest, manifest.digest);
    await again.store.close();

    const registry = await openLocation('127.0.0.1:1/app:x');
    assert.equal(registry.reference, 'x');
    assert.equal(registry.store.location, 'docker://127.0.0.1:1/app');
    await registry.store.close();
  });
});
