import { join } from 'node:path';
import { sourceImages, type SourceImage } from '../support/peers-cli.ts';
import { scratch, type Scope } from '../support/peers.ts';
import { noise } from '../support/noise.ts';
import { archive, entries, type Item } from '../support/tar-blocks.ts';
import { directory, file, hardlink, symlink } from '../support/tar-corpus.ts';
import { createLayout, putSource } from './nydus-images.ts';

/** An image of everything that is hard, as three layers that several rules of merging meet in: what umoci unpacks is what must be seen. */

const at = (seconds: number, nanoseconds = 0): Partial<Item> => ({ mtime: { seconds, nanoseconds } });
const marks = (...pairs: readonly (readonly [string, string | Uint8Array])[]): Partial<Item> => ({ xattrs: new Map(pairs.map(([name, value]) => [name, Buffer.from(value)])) });
const device = (path: string, type: 'char' | 'block', major: number, minor: number): Item => ({ ...file(path), type, major, minor });

/** cap_net_raw+ep, version 2. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const NOT_UTF8 = 'caf\udce9-\udcff';
const DEEP = Array.from({ length: 60 }, (_, i) => `d${i}`);
/** Around blocks of 512 and 4096 bytes, and chunks of 1 MiB. */
const SIZES = [1, 511, 512, 513, 4095, 4096, 4097, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 * (1 << 20) + 777];

function lowest(): readonly Item[] {
  return [
    directory('./', { mode: 0o755 }),
    directory('sizes/'),
    ...SIZES.map((size) => file(`sizes/${size}`, noise(size, size))),
    file('sizes/zeros', new Uint8Array(100_000)),
    file('sizes/empty'),
    directory('modes/', { mode: 0o1777 }),
    directory('modes/private/', { mode: 0o700, uid: 4_000_000_000, gid: 4_000_000_000 }),
    file('modes/setuid', 'x', { mode: 0o4755, uid: 0 }),
    file('modes/setgid', 'x', { mode: 0o2755 }),
    file('modes/none', 'x', { mode: 0 }),
    directory('times/', at(1_600_000_000)),
    file('times/before-1970', 'x', at(-86_400)),
    file('times/part-of-a-second', 'x', at(1_700_000_000, 123_456_789)),
    file('times/after-2106', 'x', at(5_000_000_000)),
    symlink('times/link', 'after-2106'),
    directory('names/'),
    ...['!', '-', '.-', '..a', '...', '.hidden', ' ', 'n'.repeat(255), '\u00fc'.repeat(127), '\u{1f600}', '\uff5e', NOT_UTF8, 'with "quotes" & \\'].map((name) => file(`names/${name}`, name)),
    symlink('names/to', NOT_UTF8),
    symlink('names/far', 't'.repeat(4000)),
    ...[31, 32, 447, 448, 449, 513].map((size) => symlink(`names/link-${size}`, 'l'.repeat(size))),
    directory('many/'),
    ...Array.from({ length: 3000 }, (_, i) => file(`many/entry-${(i * 1237) % 3000}`, i % 10 === 0 ? `${i}` : '')),
    ...DEEP.map((_, i) => directory(`${DEEP.slice(0, i + 1).join('/')}/`)),
    file(`${DEEP.join('/')}/bottom`, 'deep'),
    directory('nodes/'),
    device('nodes/null', 'char', 1, 3),
    device('nodes/disk', 'block', 8, 70_000),
    { ...file('nodes/pipe'), type: 'fifo' },
    directory('xattrs/', marks(['user.on-a-directory', 'd'])),
    file('xattrs/user', 'x', marks(['user.one', 'value'], ['user.two', Buffer.from([0, 1, 255])])),
    file('xattrs/capability', 'x', { mode: 0o755, ...marks(['security.capability', CAPABILITY]) }),
    file('xattrs/trusted', 'x', marks(['trusted.mark', 't'])),
    file('xattrs/large', 'x', marks(['user.large', Buffer.alloc(3000, 7)])),
    ...Array.from({ length: 30 }, (_, i) => file(`xattrs/labelled-${i}`, `${i}`, marks(['user.label', 'the same for all'], ['user.own', `${i}`]))),
    symlink('way', 'modes'),
    directory('links/'),
    file('links/first', noise(5000, 5)),
    hardlink('links/second', 'links/first'),
    hardlink('links/third', 'links/first'),
    hardlink('fourth', 'links/first'),
    directory('gone/'), directory('gone/sub/'), file('gone/sub/x', 'x'), file('gone-file', 'x'),
    directory('opaque/', { mode: 0o750 }), file('opaque/below', 'x'), directory('opaque/sub/'), file('opaque/sub/below', 'x'),
    directory('back/'), file('back/old', 'old'),
    ...['file', 'directory', 'symlink', 'fifo'].flatMap((kind) => [
      file(`was-file-is-${kind}`, 'was'), directory(`was-directory-is-${kind}/`), file(`was-directory-is-${kind}/inside`, 'was'), symlink(`was-symlink-is-${kind}`, 'nowhere'),
    ]),
    directory('changed/', { mode: 0o700 }), file('changed/kept', 'kept'), file('changed/content', 'old content, longer'), file('changed/mode', 'same', { mode: 0o600 }),
  ];
}

function middle(): readonly Item[] {
  const now = (path: string, kind: string): Item => kind === 'file' ? file(path, 'is') : kind === 'directory' ? directory(`${path}/`, { mode: 0o711 }) : kind === 'symlink' ? symlink(path, 'elsewhere') : { ...file(path), type: 'fifo' };
  return [
    directory('./'),
    file('.wh.gone'), file('.wh.gone-file'), file('.wh.never-was'),
    directory('opaque/', { mode: 0o701 }), file('opaque/.wh..wh..opq'), file('opaque/above', 'above'),
    directory('links/'), file('links/.wh.second'), file('links/third', 'another file now'),
    // A name that is hidden and made anew by the same layer, in either order.
    directory('back/'), file('back/.wh.old'), file('back/old', 'new'), file('sizes/new', 'n'), file('sizes/.wh.new'),
    ...['file', 'directory', 'symlink'].flatMap((was) => ['file', 'directory', 'symlink', 'fifo'].map((kind) => now(`was-${was}-is-${kind}`, kind))),
    directory('changed/', { mode: 0o755, uid: 5, ...at(1_650_000_000), ...marks(['user.now', 'n']) }),
    file('changed/content', 'new'), file('changed/mode', 'same', { mode: 0o644 }),
    // Half of all names of a large directory.
    directory('many/'), ...Array.from({ length: 1500 }, (_, i) => file(`many/.wh.entry-${i * 2}`)),
    // The same content again.
    file('sizes/again', noise(3 * (1 << 20) + 777, 3 * (1 << 20) + 777)),
  ];
}

function highest(): readonly Item[] {
  return [
    directory('./'),
    directory('gone/'), file('gone/is-back', 'x'),
    directory('opaque/'), file('opaque/below', 'again'), directory('opaque/deeper/'), file('opaque/deeper/.wh..wh..opq'), file('opaque/deeper/x', 'x'),
    // Names of lower layers for a file of this one.
    file('links/second', 'one'), hardlink('links/third', 'links/second'), hardlink('was-file-is-file', 'links/second'),
    // Files that only lower layers have: one that stays, one that moves, one behind a symlink.
    hardlink('cross', 'links/first'), hardlink('cross-again', 'cross'), hardlink('many/moved', 'changed/kept'), file('changed/.wh.kept'), hardlink('far', 'way/setuid'),
    file('was-directory-is-directory/inside', 'again'),
    file('.wh.was-symlink-is-directory'),
    file(`${DEEP.slice(0, 30).join('/')}/.wh.d30`), file(`${DEEP.slice(0, 29).join('/')}/beside`, 'x'),
  ];
}

/** What not every format can hold: links to files that only lower layers have, and names that are not UTF-8. */
const RARE = {
  torture: (): boolean => false,
  'torture-within-layers': ({ type, path }: Item): boolean => type === 'hardlink' && ['cross', 'cross-again', 'many/moved', 'far'].includes(path),
  'torture-in-words': (item: Item): boolean => RARE['torture-within-layers'](item) || `${item.path}${item.linkName ?? ''}`.includes(NOT_UTF8),
} as const;
export type Torture = keyof typeof RARE;

/** Plain tars, the lowest first. */
export function tortureLayers(name: Torture = 'torture'): readonly Uint8Array[] {
  return [lowest(), middle(), highest()].map((items) => archive(entries(...items.filter((item) => !RARE[name](item)))));
}

export function tortureImage(t: Scope, name: Torture = 'torture'): SourceImage {
  const layout = createLayout(join(scratch(t), 'torture'));
  putSource(layout, 'torture', tortureLayers(name));
  return { name, layout: layout.folder, tag: 'torture', command: [], prints: /$/ };
}

/** One of the images that interop tests know, or the one of hard cases; undefined after a visible skip. */
export function imageNamed(t: Scope, name: string): SourceImage | undefined {
  if (name in RARE) return tortureImage(t, name as Torture);
  const [image] = sourceImages(t, [name]);
  if (!image) t.skip(`no real ${name} image at hand`);
  return image;
}
