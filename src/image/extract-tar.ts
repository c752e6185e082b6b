import { throwIfAborted } from '../core/errors.ts';
import type { FileNode, Sink } from '../core/types.ts';
import { writeTar, type TarHeader, type TarInput } from '../tar/write.ts';
import { filesInStoredOrder } from './extract-files.ts';
import type { ExtractPlan, Planned } from './extract-plan.ts';
import type { ExtractProgress } from './extract-report.ts';
import type { OpenImage } from './open.ts';

export interface TarOptions {
  readonly signal?: AbortSignal;
  readonly progress: (event: ExtractProgress) => void;
}

/** Writes the selection as one tar: files as their layers store them, then everything else, directories last. Nothing is lost. */
export async function extractToTar(image: OpenImage, plan: ExtractPlan, sink: Sink, options: TarOptions): Promise<void> {
  await writeTar(entries(image, plan, options), async (bytes) => {
    throwIfAborted(options.signal);
    await sink(bytes);
  });
}

async function* entries(image: OpenImage, plan: ExtractPlan, { signal, progress }: TarOptions): AsyncGenerator<TarInput> {
  for await (const batch of filesInStoredOrder(image, plan.files, signal)) {
    for (const file of batch) {
      yield { ...header(file.paths[0], file.node), size: file.node.size, body: counted(file.content(), progress) };
      yield* hardLinks(file);
      progress({ type: 'file', path: file.paths[0] });
    }
  }
  for (const link of plan.symlinks) {
    yield { ...header(link.paths[0], link.node), linkName: link.node.target };
    yield* hardLinks(link);
  }
  for (const special of plan.specials) {
    const { node } = special;
    yield { ...header(special.paths[0], node), ...(node.type === 'fifo' ? {} : { major: node.major, minor: node.minor }) };
    yield* hardLinks(special);
  }
  // tar gives a directory its time and mode once it has seen an entry from elsewhere; whatever came after that would undo
  // the one and break on the other.
  for (const { path, node } of plan.directories.toReversed()) {
    // What no layer describes needs no entry: whoever unpacks makes it up again.
    if (!node.implied) yield header(path === '' ? './' : `${path}/`, node);
  }
}

function* hardLinks({ node, paths: [first, ...others] }: Planned<FileNode>): Generator<TarInput> {
  // Of a link only the name counts; attributes are the inode's, and repeating them keeps readers in agreement.
  for (const path of others) yield { ...header(path, node), type: 'hardlink', linkName: first, xattrs: new Map() };
}

function header(path: string, node: FileNode): TarHeader {
  const { type, mode, uid, gid, mtime, xattrs, userName = '', groupName = '' } = node;
  return { path, type, mode, uid, gid, mtime, xattrs, userName, groupName };
}

async function* counted(content: AsyncIterable<Uint8Array>, progress: TarOptions['progress']): AsyncGenerator<Uint8Array> {
  for await (const bytes of content) {
    yield bytes;
    progress({ type: 'bytes', bytes: bytes.length });
  }
}
