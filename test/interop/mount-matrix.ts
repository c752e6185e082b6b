import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { PROGRAM, type SourceImage } from '../support/peers-cli.ts';
import { compareTrees, withRoundedTimes, type Facts, type Tree } from '../support/peers-trees.ts';
import { haveTools, must, scratch } from '../support/peers.ts';
import { built } from '../support/root.ts';
import { BACKENDS, canMount, MountScene, type BackendName } from './mounts.ts';
import { servesPage } from './nginx-page.ts';
import { eventually, leftovers } from './run-trees.ts';
import { FORM_NAMES, FORMS, lazyImage, unpackedTree, type FormName } from './shared-images.ts';
import { imageNamed } from './torture-layers.ts';

/**
 * Images in every lazy form, on every backend: the mounted tree is what umoci unpacks, attribute by attribute and byte by byte, and
 * programs run in it. Both backends of a form use one cache: the first fetches everything and the second finds it there; who is first
 * takes turns. All of this has to be done within minutes, so torture and python are mounted by both backends, the others by one in
 * each form: nginx by the one by which debian, whose layers it has, and torch are not. All their bytes are read in each form all the
 * same. torch, four times as large as all others together, is left out of three forms whose data are read as those of their neighbours.
 */
const BY_BOTH = ['tiny', 'torture', 'python'];
const WITHOUT_TORCH: readonly FormName[] = ['soci v1', 'nydus lz4', 'zran'];

/** Without what a form cannot hold. A table of contents is JSON; only a merged tree has room for links across layers. */
function imageFor(name: string, form: FormName): string {
  if (name !== 'torture' || FORMS[form].format === 'nydus') return name;
  return form === 'estargz' ? 'torture-in-words' : 'torture-within-layers';
}

function backendsOf(image: string, number: number): readonly BackendName[] {
  const order = (number % 2 === 0) === (image === 'nginx') ? BACKENDS.toReversed() : BACKENDS;
  return BY_BOTH.includes(image) ? order : order.slice(0, 1);
}

/** The tests of an image. */
export function testInEveryForm(name: string): void {
  test(`${name} in every form, by every backend`, async (t) => {
    if (!canMount(t) || !haveTools(t, 'umoci', 'skopeo', 'getfattr', 'chroot', 'runc', 'unshare')) return;
    if (!imageNamed(t, name)) return;
    for (const [number, form] of FORM_NAMES.entries()) {
      if (name === 'torch' && WITHOUT_TORCH.includes(form)) continue;
      await t.test(form, async (s) => {
        const backends = backendsOf(name, number);
        const image = imageNamed(s, imageFor(name, form)) as SourceImage;
        const ref = await lazyImage(image, form);
        const unpacked = await unpackedTree(image);
        // Its index has whole seconds only.
        const wanted = form === 'estargz' ? withRoundedTimes(unpacked) : unpacked;
        const scene = new MountScene(s);
        for (const backend of backends) await s.test(`by ${backend}`, (u) => shows(u, scene, image, ref, backend, wanted));
        if (name === 'nginx') for (const backend of backends) await s.test(`serves a page from runc, by ${backend}`, (u) => servesPage(u, scene, ref, ['--backend', backend]));
        if (name === 'tiny' || name === 'python') await s.test('without root, in a user namespace', () => showsWithoutRoot(scene, image, ref, wanted));
      });
    }
  });
}

async function shows(t: TestContext, scene: MountScene, image: SourceImage, ref: string, backend: BackendName, wanted: Tree): Promise<void> {
  const since = Date.now() - 1000;
  const mount = await scene.mount(ref, ['--backend', backend]);
  assert.equal(mount.backend, backend);
  const began = performance.now();
  assert.deepEqual(compareTrees(wanted, await mount.tree(since), true), []);
  const { fetchedBytes, errors, complete } = await mount.ps();
  assert.deepEqual([errors, complete], [0, true]);
  t.diagnostic(`${wanted.size} names compared in ${Math.round(performance.now() - began)} ms, ${fetchedBytes} bytes fetched`);
  await mount.unmount();
  await scene.assertNothingLeft();
  if (image.command.length > 0) await runs(t, scene, image, ref, backend);
}

/** In a container of runc, which has what numpy and torch want beyond the image: /dev and /proc. */
async function runs(t: TestContext, scene: MountScene, image: SourceImage, ref: string, backend: BackendName): Promise<void> {
  const folder = scratch(t);
  const ran = await scene.run(['run', '--runtime', 'runc', '--backend', backend, '--cache-dir', scene.cache, ref, '--', ...image.command], { env: { TMPDIR: folder } });
  assert.match(`${ran.text}${ran.stderr}`, image.prints);
  await eventually(() => leftovers(folder));
  await scene.assertNothingLeft();
}

/** Mounts, reads a part of the tree, runs the image's program, and unmounts, as root of nothing but a namespace. */
const WITHOUT_ROOT = `set -e
  node=$0 program=$1 reader=$2 part=$3 since=$4 ref=$5 dir=$6 cache=$7; shift 7
  "$node" "$program" mount "$ref" "$dir" --cache-dir "$cache" --json >"$dir.mounted"
  trap '"$node" "$program" unmount "$dir"' EXIT
  "$node" "$reader" "$dir/$part" "$since" >"$dir.tree"
  chroot "$dir" "$@"`;

/** Folders of other users cannot be entered there: /usr is everybody's. */
const PART = 'usr';

async function showsWithoutRoot(scene: MountScene, image: SourceImage, ref: string, wanted: Tree): Promise<void> {
  const dir = join(scene.folder, 'rootless');
  mkdirSync(dir);
  const reader = join(built, 'test', 'interop', 'tree-reader.js');
  const ran = await must('unshare', ['-Urm', 'bash', '-c', WITHOUT_ROOT, process.execPath, PROGRAM, reader, PART, `${Date.now() - 1000}`, ref, dir, scene.cache, ...image.command], { env: scene.env });
  assert.match(`${ran.text}${ran.stderr}`, image.prints);
  assert.equal((JSON.parse(readFileSync(`${dir}.mounted`, 'utf8')) as { backend: string }).backend, 'fuse');
  const seen = new Map(JSON.parse(readFileSync(`${dir}.tree`, 'utf8')) as [string, Facts][]);
  const below = [...wanted].filter(([path]) => path === PART || path.startsWith(`${PART}/`));
  assert.ok(below.length > 10);
  assert.deepEqual(compareTrees(seenWithoutRoot(new Map(below.map(([path, facts]) => [path.slice(PART.length + 1), facts]))), seenWithoutRoot(seen), true), []);
  await scene.assertNothingLeft();
}

/** There, all users but root are one, and xattrs that only root may see are hidden. Paths in links count from the part that was read. */
function seenWithoutRoot(tree: Tree): Tree {
  const owners = (line: string): string => line.replace(/(?<=^\S+ \d{4} )(\d+):(\d+)/, (_, uid: string, gid: string) => [uid, gid].map((id) => (id === '0' ? 'root' : 'other')).join(':'));
  const line = (facts: Facts): string => owners(facts.line).replace(/ (?:security|trusted)\.[^ ]+/g, '').replace(` = ${PART}/`, ' = ');
  return new Map([...tree].map(([path, facts]) => [path, { ...facts, line: line(facts) }]));
}
