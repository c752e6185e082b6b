import { printable } from '../core/errors.ts';
import type { FileNode, Time } from '../core/types.ts';

const TYPE_LETTERS: Readonly<Record<FileNode['type'], string>> = { directory: 'd', file: '-', symlink: 'l', char: 'c', block: 'b', fifo: 'p' };

/** `drwxr-xr-x`, with s, S, t and T for the special bits as `ls` shows them. */
export function modeText(node: FileNode): string {
  const bit = (mask: number, letter: string): string => (Math.floor(node.mode / mask) % 2 === 1 ? letter : '-');
  const execute = (special: number, mask: number, letter: string): string => {
    const runs = bit(mask, 'x') === 'x';
    if (bit(special, letter) === '-') return runs ? 'x' : '-';
    return runs ? letter : letter.toUpperCase();
  };
  return [
    TYPE_LETTERS[node.type],
    bit(0o400, 'r'), bit(0o200, 'w'), execute(0o4000, 0o100, 's'),
    bit(0o040, 'r'), bit(0o020, 'w'), execute(0o2000, 0o010, 's'),
    bit(0o004, 'r'), bit(0o002, 'w'), execute(0o1000, 0o001, 't'),
  ].join('');
}

/** A name fit for a terminal: no control characters, and bytes that are not UTF-8 as `\xNN`. */
export function terminalName(name: string): string {
  return printable(name).replace(/\p{Surrogate}/gu, (unit) => `\\x${(unit.charCodeAt(0) % 256).toString(16).padStart(2, '0')}`);
}

/** UTC, `2024-01-31 12:00:00`; a time that no calendar reaches is shown in seconds since the epoch. */
export function timeText(time: Time): string {
  const text = calendar(time);
  return text === undefined ? `@${time.seconds}` : text.replace('T', ' ');
}

/** RFC 3339 in UTC, with nanoseconds when there are any; `@SECONDS` outside of what a calendar reaches. */
export function timeJson(time: Time): string {
  const text = calendar(time);
  if (text === undefined) return `@${time.seconds}`;
  const fraction = time.nanoseconds === 0 ? '' : `.${String(time.nanoseconds).padStart(9, '0').replace(/0+$/, '')}`;
  return `${text}${fraction}Z`;
}

/** Whole seconds, or undefined where four digits of year do not suffice. */
function calendar(time: Time): string | undefined {
  const date = new Date(time.seconds * 1000);
  if (Number.isNaN(date.getTime())) return undefined;
  const text = date.toISOString();
  return text.length === 24 ? text.slice(0, 19) : undefined;
}

/** What `ls -l` shows left of the name. */
export function longColumns(node: FileNode): readonly string[] {
  const size = node.type === 'file' ? String(node.size) : node.type === 'char' || node.type === 'block' ? `${node.major},${node.minor}` : '0';
  return [modeText(node), `${node.uid}:${node.gid}`, size, timeText(node.mtime)];
}

/** One entry of `ls --json`. Extended attributes are base64, because their values are bytes. */
export interface ListedEntry {
  readonly path: string;
  readonly type: FileNode['type'];
  /** Octal, four digits. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: string;
  readonly size?: number;
  readonly digest?: string;
  readonly target?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
}

export function listedEntry(path: string, node: FileNode): ListedEntry {
  return {
    path,
    type: node.type,
    mode: node.mode.toString(8).padStart(4, '0'),
    uid: node.uid,
    gid: node.gid,
    mtime: timeJson(node.mtime),
    ...(node.type === 'file' ? { size: node.size } : {}),
    ...(node.type === 'file' && node.digest ? { digest: node.digest } : {}),
    ...(node.type === 'symlink' ? { target: node.target } : {}),
    ...(node.type === 'char' || node.type === 'block' ? { major: node.major, minor: node.minor } : {}),
    ...(node.xattrs.size > 0 ? { xattrs: Object.fromEntries([...node.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('base64')])) } : {}),
  };
}
