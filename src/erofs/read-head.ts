import { corrupt, LazypullError } from '../core/errors.ts';
import { COMPAT, checksumSpan, decodeDeviceSlot, decodeSuperblock, DEVICE_SLOT_SIZE, INCOMPAT, LONG_PREFIX, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, superblockChecksum, XATTR_PREFIXES, type DeviceSlot, type Superblock } from './layout.ts';
import type { Pages } from './pages.ts';

/** What an image says about itself in front of its inodes. */
export interface Head {
  readonly superblock: Superblock;
  readonly devices: readonly DeviceSlot[];
  /** 48BIT: block numbers of 48 bits. */
  readonly wide: boolean;
  /** Long prefixes of attribute names, in their order (§12). */
  readonly prefixes: readonly string[];
}

/** Features that are for compressed data only: files that use them are refused one by one. */
const KNOWN = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0);

/** Superblock with its checksum, feature bits, device table and name prefixes. */
export async function readHead(pages: Pages): Promise<Head> {
  const bytes = await pages.read(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, 'EROFS superblock');
  const superblock = decodeSuperblock(bytes);
  const { featureIncompat, blockSize } = superblock;
  const unknown = featureIncompat & ~KNOWN;
  if (unknown !== 0) throw new LazypullError('UNSUPPORTED', `EROFS image with unknown features 0x${(unknown >>> 0).toString(16)}`, { offset: SUPERBLOCK_OFFSET });
  if ((featureIncompat & INCOMPAT.metabox) !== 0) throw new LazypullError('UNSUPPORTED', 'EROFS image with METABOX, metadata inside of a file', { offset: SUPERBLOCK_OFFSET });
  if ((superblock.featureCompat & COMPAT.checksum) !== 0) {
    const sum = superblockChecksum(await pages.read(SUPERBLOCK_OFFSET, checksumSpan(blockSize), 'first block'));
    if (sum !== superblock.checksum) throw corrupt(`superblock has checksum 0x${superblock.checksum.toString(16)}, its bytes 0x${sum.toString(16)}`, { offset: SUPERBLOCK_OFFSET });
  }
  const wide = (featureIncompat & INCOMPAT.bits48) !== 0;
  const table = superblock.extraDevices === 0 ? Buffer.alloc(0) : await pages.read(superblock.deviceTable, superblock.extraDevices * DEVICE_SLOT_SIZE, 'device table');
  const devices = Array.from({ length: superblock.extraDevices }, (_, i) => decodeDeviceSlot(table.subarray(i * DEVICE_SLOT_SIZE, (i + 1) * DEVICE_SLOT_SIZE), wide));
  return { superblock, devices, wide, prefixes: await readPrefixes(pages, superblock) };
}

async function readPrefixes(pages: Pages, { xattrPrefixCount, xattrPrefixes, packedNid, featureCompat }: Superblock): Promise<readonly string[]> {
  if (xattrPrefixCount > 0 && packedNid !== 0 && (featureCompat & COMPAT.plainXattrPrefixes) === 0) {
    throw new LazypullError('UNSUPPORTED', 'EROFS image with prefixes of attribute names in its packed file', { offset: xattrPrefixes });
  }
  const prefixes: string[] = [];
  let at = xattrPrefixes;
  for (let i = 0; i < xattrPrefixCount; i += 1) {
    const size = (await pages.read(at, 2, 'long prefix')).readUInt16LE(0);
    const item = await pages.read(at + 2, size, 'long prefix');
    const base = XATTR_PREFIXES.get(item[0] ?? 0);
    if (base === undefined || (item[0] as number) >= LONG_PREFIX || size > 256 || item.includes(0, 1)) throw corrupt('long prefix is none', { offset: at });
    prefixes.push(base + item.toString('latin1', 1));
    at += Math.ceil((2 + size) / 4) * 4;
  }
  return prefixes;
}
