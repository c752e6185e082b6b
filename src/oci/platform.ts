import { LazypullError, printable } from '../core/errors.ts';
import type { Descriptor, Platform } from '../core/types.ts';

/** Annotation by which BuildKit marks what is not an image but a statement about one. */
const ATTESTATION_TYPE = 'vnd.docker.reference.type';
/** Annotation of an attestation: the digest of the image manifest it describes. */
export const ATTESTATION_SUBJECT = 'vnd.docker.reference.digest';

const ARCHITECTURES = new Map<string, readonly [string, string?]>([
  ['x86_64', ['amd64']],
  ['x86-64', ['amd64']],
  ['aarch64', ['arm64']],
  ['armhf', ['arm', 'v7']],
  ['armel', ['arm', 'v6']],
  ['i386', ['386']],
  ['i486', ['386']],
  ['i586', ['386']],
  ['i686', ['386']],
]);
const KNOWN = new Set(['386', 'amd64', 'arm', 'arm64', 'loong64', 'mips', 'mips64', 'mips64le', 'mipsle', 'ppc64', 'ppc64le', 'riscv64', 's390x', 'wasm']);
const SYSTEMS = new Map([['macos', 'darwin']]);
/** Node's names of processors where Go, and so OCI, has another one. */
const NODE_ARCHITECTURES = new Map([['x64', 'amd64'], ['ia32', '386'], ['ppc64', 'ppc64le'], ['mipsel', 'mipsle']]);

const TEXT = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\))?\/([A-Za-z0-9_-]+)(?:\/([A-Za-z0-9_.-]+))?$/;

/**
 * Reads `os[(osversion[+feature...])]/arch[/variant]`: `linux/arm/v7`, `windows(10.0.20348)/amd64`,
 * `linux(+erofs)/amd64`. An architecture alone means linux. The result is normalised; USAGE otherwise.
 */
export function parsePlatform(text: string): Platform {
  const alone = text.toLowerCase();
  if (ARCHITECTURES.has(alone) || KNOWN.has(alone)) return normalizePlatform({ os: 'linux', architecture: alone });
  const [, os, version, features, architecture, variant] = TEXT.exec(text) ?? [];
  if (os === undefined || architecture === undefined) {
    throw new LazypullError('USAGE', `not a platform: ${printable(text.slice(0, 140))}; write os/arch or os/arch/variant, for instance linux/arm64`);
  }
  return normalizePlatform({
    os,
    architecture,
    ...(variant !== undefined && { variant }),
    ...(version && { 'os.version': version }),
    ...(features && { 'os.features': features.slice(1).split('+') }),
  });
}

/** The text of a platform as it is, not normalised. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  const features = (platform['os.features'] ?? []).map((feature) => `+${feature}`).join('');
  const inner = `${platform['os.version'] ?? ''}${features}`;
  return printable(`${os}${inner && `(${inner})`}/${architecture}${variant ? `/${variant}` : ''}`);
}

/**
 * One spelling for what is the same: lower case, Go's names for processors, arm with its variant (v7 unless said),
 * no variant for arm64/v8 and amd64/v1, features sorted.
 */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const given = platform.architecture.toLowerCase();
  const [architecture, implied] = ARCHITECTURES.get(given) ?? [given];
  let variant: string | undefined = platform.variant?.toLowerCase() || implied;
  if (variant !== undefined && /^\d/.test(variant)) variant = `v${variant}`;
  if (architecture === 'arm') variant ??= 'v7';
  if ((architecture === 'arm64' && (variant === 'v8' || variant === 'v8.0')) || (architecture === 'amd64' && variant === 'v1')) variant = undefined;
  const features = platform['os.features'];
  return {
    os: SYSTEMS.get(os) ?? os,
    architecture,
    ...(variant !== undefined && { variant }),
    ...(platform['os.version'] && { 'os.version': platform['os.version'] }),
    ...(features && features.length > 0 && { 'os.features': [...new Set(features)].sort() }),
  };
}

/** The platform whose images this machine runs; where containers live in a virtual machine, that is linux. */
export function hostPlatform(): Platform {
  const architecture = NODE_ARCHITECTURES.get(process.arch) ?? process.arch;
  // Node knows for which arm it was built; the variables of its build are not part of its types.
  const { arm_version: arm } = process.config.variables as { arm_version?: unknown };
  return normalizePlatform({
    os: process.platform === 'freebsd' ? 'freebsd' : 'linux',
    architecture,
    ...(process.arch === 'arm' && (typeof arm === 'string' || typeof arm === 'number') && { variant: `v${arm}` }),
  });
}

/**
 * How well an image of platform `entry` serves who wants `wanted`: 0 is exact, more is worse, undefined is not at all.
 * A processor also runs the images of its older variants, a 64 bit arm those of 32 bit arm. `os.features` of the image
 * must all be among the wanted ones; Windows builds must agree when one is asked for.
 */
export function matchPlatform(wanted: Platform, entry: Platform): number | undefined {
  const want = normalizePlatform(wanted);
  const have = normalizePlatform(entry);
  if (want.os !== have.os) return undefined;
  const claimed = want['os.features'] ?? [];
  if (!(have['os.features'] ?? []).every((feature) => claimed.includes(feature))) return undefined;
  if (want.os === 'windows' && want['os.version'] !== undefined && build(want) !== build(have)) return undefined;
  // An image that makes more of what the client can do comes before a plainer one, but after the better variant.
  const unused = (claimed.length - (have['os.features'] ?? []).length) / 1000;
  const wantedLevel = level(want);
  const haveLevel = level(have);
  if (want.architecture === have.architecture) {
    if (want.variant === have.variant) return unused;
    return wantedLevel !== undefined && haveLevel !== undefined && haveLevel <= wantedLevel ? wantedLevel - haveLevel + unused : undefined;
  }
  const runs = want.architecture === 'arm64' && have.architecture === 'arm' && haveLevel !== undefined && haveLevel <= 8000;
  return runs ? 100_000 - haveLevel + unused : undefined;
}

/**
 * The best entry of an index for a platform; the first in index order among equals, undefined when none serves.
 * Attestations never match. An entry without `platform` matches nothing: its config has to be asked, and the answer put
 * into the descriptor, by the caller.
 */
export function selectPlatform(manifests: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  let best: Descriptor | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  for (const descriptor of manifests) {
    if (!descriptor.platform || isAttestation(descriptor)) continue;
    const rank = matchPlatform(wanted, descriptor.platform);
    if (rank === undefined || rank >= bestRank) continue;
    best = descriptor;
    bestRank = rank;
  }
  return best;
}

/** Whether an entry of an index is BuildKit's statement about another entry (`vnd.docker.reference.digest`). */
export function isAttestation(descriptor: Descriptor): boolean {
  return descriptor.annotations?.[ATTESTATION_TYPE] === 'attestation-manifest';
}

/** Variant as a number in thousandths (`v8.2` is 8002); absent for processors whose variants are not ordered. */
function level({ architecture, variant }: Platform): number | undefined {
  if (architecture !== 'arm' && architecture !== 'arm64' && architecture !== 'amd64') return undefined;
  const [, major, minor = '0'] = /^v(\d{1,2})(?:\.(\d{1,2}))?$/.exec(variant ?? (architecture === 'arm64' ? 'v8' : 'v1')) ?? [];
  return major === undefined ? undefined : Number(major) * 1000 + Number(minor);
}

/** The part of a Windows version that has to agree: `10.0.20348` of `10.0.20348.1726`. */
function build(platform: Platform): string {
  return (platform['os.version'] ?? '').split('.').slice(0, 3).join('.');
}
