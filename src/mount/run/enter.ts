import { existsSync, mkdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { LazypullError, printable, wrapError } from '../../core/errors.ts';
import { ERRNO, errnoName, loadNative, MNT, MS, NativeError, type Native } from '../native.ts';
import { KEPT_WITHOUT_CGROUPS } from './capabilities.ts';
import { loadEnterCalls, type EnterCalls } from './enter-calls.ts';
import { valueOf } from './environment.ts';
import { mountOptions } from './mount-options.ts';
import { placeInRoot } from './place-in-root.ts';
import type { ContainerProcess } from './process.ts';
import type { ContainerPlan } from './spec.ts';
import { DEVICES, MASKED_PATHS, READONLY_PATHS, type ContainerMount } from './standard-mounts.ts';

/** What a process needs to know that is to become a container's first one. */
export interface EnterPlan {
  readonly container: ContainerPlan;
  /** Standard mounts and those of the plan. */
  readonly mounts: readonly ContainerMount[];
  /** Mounted root file system, absolute. */
  readonly root: string;
  /** Gets the number of this process as the machine knows it. */
  readonly pidFile: string;
  readonly setGroups: boolean;
}

/** Why a program does not run: 127 when there is none, 126 when there is one that cannot be. */
export class CannotExecute extends LazypullError {
  readonly exitCode: 126 | 127;

  constructor(exitCode: 126 | 127, message: string) {
    super('NOT_FOUND', message);
    this.exitCode = exitCode;
  }
}

const CAPABILITY_NUMBERS = 64;

const REASONS = new Map<number, string>([[ERRNO.EACCES, 'permission denied'], [ERRNO.ENOEXEC, 'it is no program for this machine'], [ERRNO.EPERM, 'not permitted']]);

/**
 * Turns this process into a container's first one, in namespaces that it has been started in, and never returns. Without a
 * container runtime there are namespaces, a root of its own, the same mounts, ids and capabilities, but neither control groups
 * nor a filter for system calls.
 */
export async function enterContainer(plan: EnterPlan): Promise<never> {
  const native = loadNative();
  const calls = loadEnterCalls();
  if (!native || !calls) throw new LazypullError('UNSUPPORTED', 'a container without runc or crun needs the optional package koffi');
  calls.dieWithParent();
  try {
    await prepare(plan, native, calls);
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot make the container');
  }
  throw execute(calls, plan.container.process);
}

async function prepare(plan: EnterPlan, native: Native, calls: EnterCalls): Promise<void> {
  const { container, root } = plan;
  const { process: program } = container;
  // /proc is still the machine's.
  writeFileSync(plan.pidFile, readlinkSync('/proc/self'));
  for (const mount of plan.mounts) await addMount(native, root, mount);
  await addDevices(native, root);
  await makeFolder(root, program.cwd);
  calls.setHostname(container.hostname);
  if (container.net === 'none') calls.loopbackUp();
  for (const path of MASKED_PATHS) await hide(native, root, path);
  for (const path of READONLY_PATHS) await protect(native, root, path);
  changeRoot(native, calls, root);
  // Device nodes of the image, as those that a container could make, would be the machine's own devices.
  native.mount('none', '/', null, MS.remount | MS.bind | MS.noDev | (container.readonly ? MS.readOnly : 0), null);
  process.umask(0o022);
  calls.limitOpenFiles(container.openFiles);
  calls.dropCapabilities([...Array(CAPABILITY_NUMBERS).keys()].filter((number) => !KEPT_WITHOUT_CGROUPS.includes(number)));
  becomeUser(program, plan.setGroups);
  calls.dieWithParent();
  calls.resetSignals();
  calls.keepStreams();
}

/** The container's own mount, made where its path leads inside the container; what is not there is made, too. */
async function addMount(native: Native, root: string, mount: ContainerMount): Promise<void> {
  const { flags, data, propagation, recursive } = mountOptions(mount.options);
  const bind = (flags & MS.bind) !== 0;
  const place = await placeInRoot(root, mount.destination);
  if (!place.stats) {
    const asFile = bind && !(await isFolder(mount.source));
    makeFolders(asFile ? dirname(place.path) : place.path);
    if (asFile) writeFileSync(place.path, '', { mode: 0o644 });
  }
  try {
    if (!bind) {
      native.mount(mount.source, place.path, mount.type, flags, data || null);
      return;
    }
    native.mount(mount.source, place.path, null, MS.bind | (recursive ? MS.recursive : 0), null);
    if (propagation !== 0) native.mount('none', place.path, null, propagation, null);
    // Flags of a bind mount count from the second call on.
    remount(native, place.path, (flags - MS.bind) | MS.noDev);
  } catch (error) {
    // What the kernel is built without is missed by hardly anybody; a volume is another matter.
    if (!bind && (mount.type === 'mqueue' || mount.type === 'cgroup') && error instanceof NativeError) return;
    throw wrapError(error, 'IO', `cannot mount ${printable(mount.destination)}`);
  }
}

/** In a user namespace flags that a mount has already cannot be taken away, not even by leaving them out. */
function remount(native: Native, path: string, flags: number): void {
  const tries = [flags, flags | MS.noDev, flags | MS.noSuid | MS.noDev, flags | MS.noSuid | MS.noDev | MS.noExec];
  for (const [i, each] of tries.entries()) {
    try {
      native.mount('none', path, null, MS.remount | MS.bind | each, null);
      return;
    } catch (error) {
      if (i === tries.length - 1 || !(error instanceof NativeError) || error.errno !== ERRNO.EPERM) throw error;
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await placeInRoot('/', path)).stats?.isDirectory() ?? true;
}

/** Nodes cannot be made in a user namespace, so the machine's are shown, one by one. */
async function addDevices(native: Native, root: string): Promise<void> {
  const folder = (await placeInRoot(root, '/dev')).path;
  for (const name of DEVICES) {
    if (!existsSync(`/dev/${name}`)) continue;
    writeFileSync(`${folder}/${name}`, '');
    native.mount(`/dev/${name}`, `${folder}/${name}`, null, MS.bind, null);
  }
  const links: readonly (readonly [string, string])[] = [['/proc/self/fd', 'fd'], ['/proc/self/fd/0', 'stdin'], ['/proc/self/fd/1', 'stdout'], ['/proc/self/fd/2', 'stderr'], ['pts/ptmx', 'ptmx']];
  for (const [target, name] of links) symlinkSync(target, `${folder}/${name}`);
}

async function makeFolder(root: string, path: string): Promise<void> {
  const place = await placeInRoot(root, path);
  if (!place.stats) makeFolders(place.path);
}

/** One by one: where a folder cannot be made although the one above is there, as in /proc, Node's own way of doing this never ends. */
function makeFolders(path: string): void {
  const missing: string[] = [];
  for (let at = path; !existsSync(at); at = dirname(at)) missing.push(at);
  for (const folder of missing.reverse()) mkdirSync(folder, { mode: 0o755 });
}

/** A file shows nothing, a folder is empty. */
async function hide(native: Native, root: string, path: string): Promise<void> {
  const place = await placeInRoot(root, path);
  if (!place.stats) return;
  if (place.stats.isDirectory()) native.mount('tmpfs', place.path, 'tmpfs', MS.readOnly, 'size=0k');
  else native.mount('/dev/null', place.path, null, MS.bind, null);
}

async function protect(native: Native, root: string, path: string): Promise<void> {
  const place = await placeInRoot(root, path);
  if (!place.stats) return;
  native.mount(place.path, place.path, null, MS.bind | MS.recursive, null);
  remount(native, place.path, MS.readOnly | MS.noSuid | MS.noDev | MS.noExec);
}

function changeRoot(native: Native, calls: EnterCalls, root: string): void {
  process.chdir(root);
  try {
    // Both at one place: the old root then lies over the new one, and is taken off.
    calls.pivotRoot('.', '.');
    native.umount('.', MNT.detach);
  } catch (error) {
    // A machine that runs from its initial RAM disk has a root that cannot be put away.
    if (!(error instanceof NativeError) || error.errno !== ERRNO.EINVAL) throw error;
    native.mount(root, '/', null, MS.move, null);
    calls.chroot('.');
  }
  process.chdir('/');
}

function becomeUser({ user, cwd }: ContainerProcess, setGroups: boolean): void {
  try {
    if (setGroups) process.setgroups?.([...user.groups]);
    process.setgid?.(user.gid);
    // A directory that only the user may enter, and one that only root may: both are to work.
    const entered = tryEnter(cwd);
    process.setuid?.(user.uid);
    if (!entered) process.chdir(cwd);
  } catch (error) {
    throw wrapError(error, 'IO', `cannot become user ${user.uid}:${user.gid} in ${printable(cwd)}`);
  }
}

function tryEnter(path: string): boolean {
  try {
    process.chdir(path);
    return true;
  } catch {
    return false;
  }
}

/** As execvp(3) looks for it, in the container's PATH. Returns only when there is nothing to execute. */
function execute(calls: EnterCalls, { args, env }: ContainerProcess): CannotExecute {
  const [name] = args;
  const shown = printable(name.slice(0, 200));
  const path = valueOf(env, 'PATH') ?? '';
  const candidates = name.includes('/') ? [name] : path.split(':').map((folder) => `${folder || '.'}/${name}`);
  let refused: number | undefined;
  for (const candidate of candidates) {
    const errno = calls.exec(candidate, args, env);
    if (errno === ERRNO.ENOENT || errno === ERRNO.ENOTDIR) continue;
    refused = errno;
    if (errno !== ERRNO.EACCES) break;
  }
  if (refused !== undefined) return new CannotExecute(126, `cannot execute ${shown}: ${REASONS.get(refused) ?? errnoName(refused)}`);
  return new CannotExecute(127, name.includes('/') ? `${shown} is not in the container, or what it needs to run is not` : `${shown} is in no folder of the container's PATH (${printable(path)})`);
}
