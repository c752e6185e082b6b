import { LazypullError, printable } from '../../core/errors.ts';

/** Who the container's process is. */
export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  /** All groups, the first one among them, sorted. */
  readonly groups: readonly number[];
  readonly home: string;
  /** Undefined for a number without an entry. */
  readonly name: string | undefined;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Numbers above are -1 and its neighbours to some system calls. */
const MAX_ID = 2 ** 31 - 1;

/** passwd(5). Lines that are none are skipped, as the C library does. */
export function parsePasswd(text: string): readonly PasswdEntry[] {
  return lines(text).flatMap((line) => {
    const [name, , uid, gid, , home] = line.split(':');
    const ids = [idOf(uid), idOf(gid)] as const;
    if (!name || ids[0] === undefined || ids[1] === undefined) return [];
    return [{ name, uid: ids[0], gid: ids[1], home: home ?? '' }];
  });
}

/** group(5). */
export function parseGroup(text: string): readonly GroupEntry[] {
  return lines(text).flatMap((line) => {
    const [name, , gid, members] = line.split(':');
    const id = idOf(gid);
    return !name || id === undefined ? [] : [{ name, gid: id, members: (members ?? '').split(',').map((member) => member.trim()) }];
  });
}

/**
 * Who `user[:group]` is, by the image's own /etc/passwd and /etc/group (texts, empty when there are none). Names need an
 * entry, numbers do not: they are then in group 0 and at home in `/`. Groups that list the user count unless a group is
 * asked for.
 */
export function resolveUser(spec: string, passwdText: string, groupText: string): ContainerUser {
  const passwd = parsePasswd(passwdText);
  const group = parseGroup(groupText);
  const colon = spec.indexOf(':');
  const wantedUser = (colon < 0 ? spec : spec.slice(0, colon)) || '0';
  const wantedGroup = colon < 0 ? '' : spec.slice(colon + 1);
  const entry = passwd.find(({ name, uid }) => name === wantedUser || String(uid) === wantedUser);
  const uid = entry?.uid ?? idOf(wantedUser);
  if (uid === undefined) throw unknown('user', wantedUser, '/etc/passwd');
  const home = entry?.home || '/';
  if (wantedGroup !== '') {
    const gid = group.find((one) => one.name === wantedGroup || String(one.gid) === wantedGroup)?.gid ?? idOf(wantedGroup);
    if (gid === undefined) throw unknown('group', wantedGroup, '/etc/group');
    return { uid, gid, groups: [gid], home, name: entry?.name };
  }
  const gid = entry?.gid ?? 0;
  const more = entry ? group.filter(({ members }) => members.includes(entry.name)).map((one) => one.gid) : [];
  return { uid, gid, groups: [...new Set([gid, ...more])].sort((a, b) => a - b), home, name: entry?.name };
}

/** A decimal number that can be an id. */
function idOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

function lines(text: string): readonly string[] {
  return text.split('\n').map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
}

function unknown(kind: 'user' | 'group', wanted: string, file: string): LazypullError {
  const number = /^-?\d+$/.test(wanted);
  return new LazypullError('USAGE', number ? `${kind} ${printable(wanted.slice(0, 40))} is not a number from 0 to ${MAX_ID}` : `the image's ${file} has no ${kind} ${printable(wanted.slice(0, 100))}`);
}
