import { encodeName } from '../../core/bytes.ts';
import { FILE_TYPE, LAYOUT } from '../../erofs/layout.ts';
import { ErofsView } from '../../erofs/view.ts';
import type { ListLine } from '../../layer/list-line.ts';
import type { FileRun } from './file-map.ts';

/** Where the bytes are that lines of a list name, by line; for `others` that takes a look at the whole tree. */
export interface ListedRuns {
  readonly runs: readonly (readonly FileRun[] | undefined)[];
  /** Lines that are globs, or name directories. */
  readonly others: readonly number[];
}

/**
 * Looks lines up in the tree by their paths (`literals`, from the image's root and clean), one by one: a list is much shorter than
 * a tree. A line that names nothing with bytes in it has no runs.
 */
export async function listedRuns(metadata: SharedArrayBuffer, lines: readonly ListLine[], literals: readonly string[]): Promise<ListedRuns> {
  const view = await ErofsView.open(new Uint8Array(metadata));
  const others: number[] = [];
  const runs = lines.map(({ parts }, line) => {
    const literal = literals[line] as string;
    const found = literal === '' || /[*?[\\]/.test(literal) ? 'other' : lookUp(view, literal, parts);
    if (found !== 'other') return found;
    others.push(line);
    return undefined;
  });
  return { runs, others };
}

function lookUp(view: ErofsView, literal: string, parts: ListLine['parts']): readonly FileRun[] | undefined | 'other' {
  let nid = view.rootNid;
  let type: number = FILE_TYPE.directory;
  for (const name of literal.split('/')) {
    const found = type === FILE_TYPE.directory ? view.find(nid, encodeName(name)) : undefined;
    if (!found) return undefined;
    ({ nid, type } = found);
  }
  if (type === FILE_TYPE.directory) return 'other';
  if (type !== FILE_TYPE.file) return undefined;
  const inode = view.inode(nid);
  if (inode.size === 0 || inode.layout !== LAYOUT.chunkBased) return undefined;
  const runs: FileRun[] = [];
  for (const [from, to] of parts ?? [[0, inode.size - 1] as const]) {
    for (const { device, offset, length } of view.runs(nid, inode, from, to - from + 1)) if (device !== undefined && device > 0) runs.push({ device: device - 1, address: offset, length });
  }
  return runs;
}
