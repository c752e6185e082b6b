import { encodeInode } from '../../erofs/inode.ts';
import { COMPAT, encodeDirent, encodeSuperblock, EXTENDED_INODE_SIZE, FILE_TYPE, INCOMPAT, LAYOUT, modeOfType, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE } from '../../erofs/layout.ts';

const BLOCK_SIZE = 512;
const PAGE = 4096;
/** Where the root's inode is, right behind the superblock; node ids count 32 bytes. */
const ROOT_AT = SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE;

/** The smallest image there is: an empty folder, in blocks of 512 bytes. Mounting it tells what a kernel can do. */
export function tinyImage(): Uint8Array {
  const image = Buffer.alloc(PAGE);
  image.set(
    encodeSuperblock({
      featureCompat: COMPAT.mtime,
      featureIncompat: INCOMPAT.tailPacking,
      blockSize: BLOCK_SIZE,
      rootNid: ROOT_AT / 32,
      inodes: 1,
      epoch: { seconds: 0, nanoseconds: 0 },
      blocks: PAGE / BLOCK_SIZE,
      metaBlock: 0,
      xattrBlock: 0,
      uuid: Buffer.alloc(16),
      volumeName: 'lazypull probe',
      extraDevices: 0,
      deviceTable: 0,
      xattrPrefixCount: 0,
      xattrPrefixes: 0,
      packedNid: 0,
    }),
    SUPERBLOCK_OFFSET,
  );
  const names = ['.', '..'];
  const entries = Buffer.alloc(names.length * 12 + names.join('').length);
  const view = new DataView(entries.buffer, entries.byteOffset);
  let nameAt = names.length * 12;
  for (const [i, name] of names.entries()) {
    encodeDirent(view, i * 12, ROOT_AT / 32, nameAt, FILE_TYPE.directory);
    nameAt += entries.write(name, nameAt);
  }
  encodeInode(new DataView(image.buffer, image.byteOffset), ROOT_AT, {
    layout: LAYOUT.flatInline,
    xattrSize: 0,
    mode: modeOfType(FILE_TYPE.directory) | 0o755,
    nlink: 2,
    size: entries.length,
    union: 0,
    startHigh: 0,
    ino: 1,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0, nanoseconds: 0 },
  });
  image.set(entries, ROOT_AT + EXTENDED_INODE_SIZE);
  return image;
}
