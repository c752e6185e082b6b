import { LazypullError, throwIfAborted, wrapError } from '../core/errors.ts';
import type { FileNode, Sink } from '../core/types.ts';
import { extractToDirectory } from './extract-directory.ts';
import { planExtract, type ExtractPlan } from './extract-plan.ts';
import { extractToTar } from './extract-tar.ts';
import type { ExtractProgress, ExtractReport } from './extract-report.ts';
import type { OpenImage } from './open.ts';

export type { ExtractProgress, ExtractReport } from './extract-report.ts';

/** A directory of this machine (made when it is not there), or whoever takes the bytes of a tar. */
export type ExtractTarget = { readonly directory: string } | { readonly sink: Sink };

export interface ExtractOptions {
  /** Files and directories of the image, as a process in the container would name them; default: all of it. */
  readonly paths?: readonly string[];
  /** Replace what is in the directory already instead of refusing to begin. */
  readonly overwrite?: boolean;
  /** Give files to the image's users and keep set-user-ID bits; default: when the process runs as root. */
  readonly sameOwner?: boolean;
  /** Most bytes of file content, against indexes that promise endless files; default 64 GiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (event: ExtractProgress) => void;
}

const DEFAULT_MAX_BYTES = 64 * 1024 ** 3;

/**
 * Takes files and directory trees out of an image, as a container would see them, by ranged reads only. In a directory they
 * get modes, times, symlinks and hard links; ownership and set-user-ID bits as `sameOwner` says; extended attributes,
 * devices and FIFOs are beyond Node and told in a warning. A tar keeps everything.
 *
 * Names come from strangers: nothing is written outside of the directory or through a symlink in it. The first failure ends
 * the extraction; files that were done by then stay, each of them whole. Nobody else may write to the directory meanwhile.
 */
export async function extractImage(image: OpenImage, target: ExtractTarget, options: ExtractOptions = {}): Promise<ExtractReport> {
  const { paths = ['/'], maxBytes = DEFAULT_MAX_BYTES, signal, progress = () => undefined } = options;
  throwIfAborted(signal);
  const plan = planExtract(await image.tree(signal), paths);
  if (plan.bytes > maxBytes) throw new LazypullError('LIMIT', `the selected files have ${plan.bytes} bytes, above the ${maxBytes} allowed`);
  progress({ type: 'total', files: plan.files.length, bytes: plan.bytes });
  const own = { progress, ...(signal && { signal }) };
  const inDirectory = 'directory' in target;
  const sameOwner = options.sameOwner ?? process.getuid?.() === 0;
  try {
    if (inDirectory) await extractToDirectory(image, plan, target.directory, { ...own, sameOwner, overwrite: options.overwrite ?? false });
    else await extractToTar(image, plan, target.sink, own);
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot extract');
  }
  const names = (list: ExtractPlan['specials'] | ExtractPlan['symlinks'] | ExtractPlan['files']): number => list.reduce((sum, { paths: all }) => sum + all.length, 0);
  return {
    digest: image.descriptor.digest,
    paths: plan.roots.map((path) => `/${path}`),
    directories: plan.directories.length,
    files: plan.files.length,
    hardLinks: names(plan.files) - plan.files.length,
    symlinks: names(plan.symlinks),
    specials: inDirectory ? 0 : names(plan.specials),
    bytes: plan.bytes,
    skipped: inDirectory ? names(plan.specials) : 0,
    warnings: inDirectory ? losses(plan, sameOwner) : [],
    read: image.stats(),
  };
}

/** What a directory does not keep of the selection. */
function losses(plan: ExtractPlan, sameOwner: boolean): string[] {
  const made: FileNode[] = [...plan.directories, ...plan.files, ...plan.symlinks].map(({ node }) => node);
  const xattrs = made.filter((node) => node.xattrs.size > 0);
  const names = new Set(xattrs.flatMap((node) => [...node.xattrs.keys()]));
  const special = made.filter(({ mode, type }) => type !== 'symlink' && Math.floor(mode / 0o2000) % 4 !== 0);
  const left = plan.specials.map(({ node }) => node);
  const fifos = left.filter(({ type }) => type === 'fifo').length;
  const kinds = [...(left.length > fifos ? [several(left.length - fifos, 'device')] : []), ...(fifos > 0 ? [several(fifos, 'FIFO')] : [])];
  return [
    ...(kinds.length > 0 ? [`left out ${kinds.join(' and ')}, which only a tar can have`] : []),
    ...(xattrs.length > 0 ? [`${several(xattrs.length, 'entry', 'entries')} lost extended attributes (${[...names].sort().slice(0, 3).join(', ')}${names.size > 3 ? ', ...' : ''}), which only a tar keeps`] : []),
    ...(special.length > 0 && !sameOwner ? [`${several(special.length, 'entry', 'entries')} lost the set-user-ID or set-group-ID bit, because they belong to you and not to their owner`] : []),
  ];
}

function several(count: number, one: string, more = `${one}s`): string {
  return `${count} ${count === 1 ? one : more}`;
}
