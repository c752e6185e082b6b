import { readFileSync } from 'node:fs';
import { LazypullError } from '../../core/errors.ts';
import { formatPlatform, hostPlatform, matchPlatform } from '../../oci/platform.ts';
import type { RunConfig } from './image-config.ts';

/** Names of processors as qemu, and so the kernel's list of foreign binaries, has them. */
const EMULATORS = new Map([
  ['386', 'i386'], ['amd64', 'x86_64'], ['arm', 'arm'], ['arm64', 'aarch64'], ['loong64', 'loongarch64'], ['mips64le', 'mips64el'], ['ppc64le', 'ppc64le'], ['riscv64', 'riscv64'], ['s390x', 's390x'],
]);
const FOREIGN_BINARIES = '/proc/sys/fs/binfmt_misc';

/** UNSUPPORTED for an image whose programs this machine cannot run; a line for the user when it can only with help, nothing when all is well. */
export function checkRunsHere({ os, architecture, variant }: Pick<RunConfig, 'os' | 'architecture' | 'variant'>, folder = FOREIGN_BINARIES): string | undefined {
  // An image that does not say is taken at its user's word.
  if (os === undefined || architecture === undefined) return undefined;
  const image = { os, architecture, ...(variant === undefined ? {} : { variant }) };
  const host = hostPlatform();
  if (matchPlatform(host, image) !== undefined || runs386(host.architecture, image)) return undefined;
  const what = `the image is for ${formatPlatform(image)}, and this machine is ${formatPlatform(host)}`;
  const emulator = EMULATORS.get(architecture);
  if (os === host.os && emulator !== undefined && isEnabled(`${folder}/qemu-${emulator}`)) return `${what}: its programs run in an emulator (qemu-${emulator})`;
  throw new LazypullError('UNSUPPORTED', `${what}; --platform chooses another one of an image that has several`);
}

/** Kernels for x86-64 run programs for its predecessor. */
function runs386(host: string, image: { readonly os: string; readonly architecture: string }): boolean {
  return host === 'amd64' && image.os === 'linux' && image.architecture === '386';
}

function isEnabled(path: string): boolean {
  try {
    return readFileSync(path, 'latin1').startsWith('enabled');
  } catch {
    return false;
  }
}
