import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { lazypull, lazypullJson, type SourceImage } from '../support/peers-cli.ts';
import { readTree, type Facts, type Tree } from '../support/peers-trees.ts';
import { inScope } from '../support/scope.ts';
import { once } from '../support/shared.ts';
import { unpack } from './steps.ts';

/** Images as several tests look at them: unpacked once and converted once in a run of all tests, whichever file asks first. */

/** A form in which an image can be read lazily. */
interface Form {
  /** Adds an index to a copy of the image, or converts it. */
  readonly verb: 'index' | 'convert';
  readonly flags: readonly string[];
  /** What `inspect` says of every layer's format. */
  readonly format: string;
  /** What it says of at least one layer beyond that. */
  readonly detail?: readonly [name: string, value: string];
}

/** All of them, with the flags that make small layers lazy, too. */
export const FORMS = {
  'mount index': { verb: 'index', flags: ['--as', 'erofs'], format: 'erofs' },
  estargz: { verb: 'convert', flags: ['--format', 'estargz'], format: 'estargz' },
  'soci v1': { verb: 'index', flags: ['--as', 'soci', '--min-layer-size', '0'], format: 'soci', detail: ['version', 'v1'] },
  'soci v2': { verb: 'convert', flags: ['--format', 'soci', '--min-layer-size', '0'], format: 'soci', detail: ['version', 'v2'] },
  'nydus zstd': { verb: 'convert', flags: ['--format', 'nydus'], format: 'nydus', detail: ['compressor', 'zstd'] },
  'nydus lz4': { verb: 'convert', flags: ['--format', 'nydus', '--compressor', 'lz4'], format: 'nydus', detail: ['compressor', 'lz4'] },
  zran: { verb: 'convert', flags: ['--format', 'nydus-zran'], format: 'nydus', detail: ['compressor', 'gzip'] },
} as const satisfies Readonly<Record<string, Form>>;
export type FormName = keyof typeof FORMS;
export const FORM_NAMES = Object.keys(FORMS) as readonly FormName[];

const LONG = { timeout: 600_000 };

/** An image in a lazy form, in a layout that nobody may write to: `oci:DIR:lazy`. What `inspect` says of it is checked. */
export async function lazyImage(image: SourceImage, name: FormName): Promise<string> {
  const layout = await once(`${image.name} as ${name}`.replaceAll(' ', '-'), async (draft) => {
    const source = `oci:${image.layout}:${image.tag}`;
    const target = `oci:${draft}:lazy`;
    const { verb, flags } = FORMS[name];
    if (verb === 'convert') {
      await lazypull(['convert', source, target, ...flags], LONG);
    } else {
      await lazypull(['copy', source, target], LONG);
      await lazypull(['index', target, ...flags], LONG);
    }
    await assertForm(target, name);
  });
  return `oci:${layout}:lazy`;
}

interface Inspected {
  readonly images: readonly { readonly layers: readonly { readonly format: string | null; readonly lazy: { readonly details: Readonly<Record<string, unknown>> } | null }[] }[];
}

/** Nothing is read in another way than the one that is to be tested. */
async function assertForm(reference: string, name: FormName): Promise<void> {
  const { format, detail }: Form = FORMS[name];
  const { images } = (await lazypullJson(['inspect', reference, '--platform', 'linux/amd64'])) as Inspected;
  const layers = images[0]?.layers ?? [];
  assert.ok(layers.length > 0);
  assert.deepEqual(layers.filter((layer) => layer.format !== format), [], `layers of ${reference} that are not ${format}`);
  if (detail) assert.ok(layers.some(({ lazy }) => lazy?.details[detail[0]] === detail[1]), `${reference}: no layer has ${detail.join(' ')}`);
}

/** What umoci makes of an image. */
export async function unpackedTree(image: SourceImage): Promise<Tree> {
  const path = await once(`${image.name}-tree.json`, (draft) =>
    inScope(async (scope) => {
      const since = Date.now() - 1000;
      writeFileSync(draft, JSON.stringify([...(await readTree(await unpack(scope, `oci:${image.layout}:${image.tag}`), since))]));
    }));
  const tree = new Map(JSON.parse(readFileSync(path, 'utf8')) as [string, Facts][]);
  assert.ok(tree.size > 50, 'the source is nearly empty');
  return tree;
}
