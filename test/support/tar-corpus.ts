import { concat } from '../../src/core/bytes.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { ByteStream } from '../../src/core/types.ts';
import { encodeTarHeader, END_OF_ARCHIVE, paddingOf } from '../../src/tar/write.ts';
import {
  archive,
  base256,
  bytesOf,
  entries,
  GNU,
  gnuLong,
  gnuSparseExtension,
  gnuSparseTail,
  padded,
  paxHeader,
  paxRecord,
  rawEntry,
  rawHeader,
  V7,
  type Item,
} from './tar-blocks.ts';

// Hard archives, one function each. `tarCases` lists them with what reading them through (every header, every payload,
// `checkPath`, the trailer) must give.

const mtime = { seconds: 1_700_000_000, nanoseconds: 0 };
const owner = { uid: 1000, gid: 100, userName: 'user', groupName: 'users', mtime } as const;

export const file = (path: string, body: string | Uint8Array = '', more: Partial<Item> = {}): Item => ({ path, type: 'file', mode: 0o644, ...owner, body, ...more });
export const directory = (path: string, more: Partial<Item> = {}): Item => ({ path, type: 'directory', mode: 0o755, ...owner, ...more });
export const symlink = (path: string, linkName: string): Item => ({ path, type: 'symlink', mode: 0o777, linkName, ...owner });
export const hardlink = (path: string, linkName: string): Item => ({ path, type: 'hardlink', mode: 0o644, linkName, ...owner });

const LONG_DIRECTORY = `${'d'.repeat(60)}/${'e'.repeat(60)}`;
const LONG_COMPONENT = 'n'.repeat(200);
/** 0xff and a torn sequence, by `decodeName`. */
const NOT_UTF8 = 'caf\udce9-\udcff\udcc3';

/** A file, a directory, a symlink, an empty file: what every reader must manage. */
export const simple = (): Uint8Array => archive(entries(directory('etc/'), file('etc/hostname', 'lazy\n'), symlink('etc/alias', 'hostname'), file('etc/empty'), file('etc/block', new Uint8Array(512).fill(0x62))));
export const withDotSlash = (): Uint8Array => archive(entries(directory('./'), directory('./etc/'), file('./etc/hostname', 'lazy\n')));
export const absoluteNames = (): Uint8Array => archive(entries(directory('/etc/'), file('/etc/hostname', 'lazy\n'), hardlink('/etc/again', '/etc/hostname')));

export const noEntries = (): Uint8Array => END_OF_ARCHIVE.slice();
export const noBytes = (): Uint8Array => new Uint8Array(0);
export const noEndBlocks = (): Uint8Array => entries(file('a', 'a'));
export const oneEndBlock = (): Uint8Array => concat([entries(file('a', 'a')), new Uint8Array(512)]);
/** Records of 20 blocks, as tar writes them, and bytes that are no zeros behind the end. */
export const bytesAfterEnd = (): Uint8Array => concat([archive(entries(file('a', 'a'))), new Uint8Array(8192), bytesOf('something else')]);

export const longNamesUstar = (): Uint8Array => archive(entries(file(`${LONG_DIRECTORY}/name`, 'x'), directory(`${LONG_DIRECTORY}/${'f'.repeat(20)}/`), file('z'.repeat(100), 'y')));
export const longNamesPax = (): Uint8Array => archive(entries(file(`${LONG_DIRECTORY}/${LONG_COMPONENT}`, 'x'), symlink('long', LONG_COMPONENT), hardlink(LONG_COMPONENT, `${LONG_DIRECTORY}/${LONG_COMPONENT}`)));
export const longNamesGnu = (): Uint8Array =>
  archive(
    gnuLong('L', `${LONG_DIRECTORY}/${LONG_COMPONENT}`),
    rawEntry({ name: `${LONG_DIRECTORY}/${LONG_COMPONENT}`.slice(0, 100), magic: GNU }, 'x'),
    gnuLong('K', LONG_COMPONENT),
    gnuLong('L', `${LONG_COMPONENT}-link`),
    rawHeader({ name: LONG_COMPONENT.slice(0, 100), typeflag: '2', linkName: LONG_COMPONENT.slice(0, 100), magic: GNU }),
  );
/** GNU's magic and a name prefix: Go before 1.8 wrote it so. */
export const gnuWithPrefix = (): Uint8Array => archive(rawEntry({ name: 'name', magic: GNU, tail: LONG_DIRECTORY }, 'x'));

export const nonAsciiNames = (): Uint8Array => archive(entries(directory('größe/'), file('größe/文件', 'x'), symlink('größe/lien', 'été'), file('größe/\u{1f40b}', 'y')));
export const invalidUtf8Names = (): Uint8Array => archive(entries(file(NOT_UTF8, 'x'), symlink('to', NOT_UTF8), hardlink(`${NOT_UTF8}2`, NOT_UTF8)));
export const invalidUtf8LongNames = (): Uint8Array => archive(entries(file(`${NOT_UTF8}/${LONG_COMPONENT}`, 'x'), symlink('to', `${LONG_COMPONENT}${NOT_UTF8}`)));

export const hardLinkBackward = (): Uint8Array => archive(entries(file('a', 'data'), hardlink('b', 'a'), hardlink('c', './b')));
export const hardLinkForward = (): Uint8Array => archive(entries(hardlink('b', 'a'), file('a', 'data')));
export const hardLinkOutOfLayer = (): Uint8Array => archive(entries(hardlink('b', 'usr/bin/elsewhere')));
/** The link repeats its target's size and has no payload. */
export const hardLinkWithSize = (): Uint8Array => archive(entries(file('a', 'data')), rawHeader({ name: 'b', typeflag: '1', linkName: 'a', size: 4 }), entries(file('c', 'more')));
export const directoryWithSize = (): Uint8Array => archive(rawHeader({ name: 'a/', typeflag: '5', size: 4096 }), entries(file('a/b', 'more')));

export const duplicateNames = (): Uint8Array => archive(entries(file('a', 'first'), file('./a', 'second, longer'), directory('d/'), file('d/x', '1'), directory('d/', { mode: 0o700 })));
export const missingParents = (): Uint8Array => archive(entries(file('opt/app/bin/run', '#!/bin/sh\n')));
export const whiteouts = (): Uint8Array => archive(entries(directory('etc/'), file('etc/.wh.gone'), file('.wh.top')));
export const opaqueDirectory = (): Uint8Array => archive(entries(directory('var/'), file('var/.wh..wh..opq'), file('var/new', 'n')));

export const xattrs = (): Uint8Array =>
  archive(
    entries(
      file('bin/ping', 'x', { xattrs: new Map([['security.capability', Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0xff, 0, 0x0a, 0x3d)], ['user.empty', new Uint8Array(0)]]) }),
      directory('d/', { xattrs: new Map([['user.ключ', bytesOf('значение')]]) }),
    ),
  );
/** As bsdtar writes them: base64, names percent-encoded, and the plain spelling of one of them. */
export const xattrsOfLibarchive = (): Uint8Array =>
  archive(paxHeader([['LIBARCHIVE.xattr.user.a%20b', 'AQD/'], ['SCHILY.xattr.user.c', Uint8Array.of(0xfe, 0)], ['LIBARCHIVE.xattr.user.c', 'AAAA']]), rawEntry({ name: 'a' }, 'x'));

export const devices = (): Uint8Array =>
  archive(
    entries(
      { path: 'dev/null', type: 'char', mode: 0o666, major: 1, minor: 3, ...owner },
      { path: 'dev/sda', type: 'block', mode: 0o660, major: 8, minor: 0, ...owner },
      { path: 'dev/big', type: 'block', mode: 0o600, major: 4095, minor: 1_048_575, ...owner },
      { path: 'dev/huge', type: 'char', mode: 0o600, major: 2 ** 21, minor: 2 ** 32 - 1, ...owner },
      { path: 'run/pipe', type: 'fifo', mode: 0o600, ...owner },
    ),
  );
export const emptyFiles = (): Uint8Array => archive(entries(file('a'), file('b'), file('c')));
export const contiguousFile = (): Uint8Array => archive(rawEntry({ name: 'a', typeflag: '7' }, 'data'));
export const fileTypeInMode = (): Uint8Array => archive(rawEntry({ name: 'a', mode: '0100755\0' }, 'x'), rawHeader({ name: 'd/', typeflag: '5', mode: '0040755\0' }));

const at = (seconds: number, nanoseconds = 0): Partial<Item> => ({ mtime: { seconds, nanoseconds } });
export const times = (): Uint8Array =>
  archive(entries(file('epoch', '', at(0)), file('negative', '', at(-5)), file('below', '', at(-2, 750_000_000)), file('just-below', '', at(-1, 1)), file('nano', '', at(1_700_000_000, 123_456_789)), file('tenth', '', at(1, 100_000_000)), file('far', '', at(8 ** 11)), file('all', '', { ...at(1), atime: { seconds: 2, nanoseconds: 5 }, ctime: { seconds: -3, nanoseconds: 0 } })));
export const timesGnu = (): Uint8Array => archive(rawHeader({ name: 'a', magic: GNU, mtime: base256(-5, 12), tail: concat([bytesOf('00000000012\0'), base256(-1, 12)]) }));

export const base256Numbers = (): Uint8Array =>
  archive(concat([rawHeader({ name: 'a', magic: GNU, uid: base256(2_097_152, 8), gid: base256(4_294_967_295, 8), size: base256(3, 12), mtime: base256(2 ** 40, 12) }), padded('abc')]));
export const largeIds = (): Uint8Array => archive(entries(file('a', 'x', { uid: 2_097_152, gid: 4_294_967_295, userName: 'u'.repeat(40), groupName: 'größe' })));
export const signedChecksum = (): Uint8Array => archive(rawHeader({ name: 'caf\udce9', signedChecksum: true }));
export const v7Archive = (): Uint8Array => archive(rawHeader({ name: 'd/', typeflag: '\0', magic: V7, mode: '  755 \0', uid: '', gid: '     0 \0' }), rawEntry({ name: 'd/a', typeflag: '\0', magic: V7, size: '          4 ' }, 'data'));

export const paxGlobal = (): Uint8Array =>
  archive(
    paxHeader([['comment', 'c0ffee'], ['uid', '7'], ['mtime', '12.5'], ['path', 'global'], ['size', '0']], 'g'),
    entries(file('a', 'x')),
    paxHeader([['comment', 'another'], ['gid', '7']], 'g'),
    paxHeader([['uid', '8']]),
    rawEntry({ name: 'b' }, 'y'),
    paxHeader([['uid', '9']], 'g'),
    rawEntry({ name: 'c' }, 'z'),
  );
/** What is in front of a global header falls with it. */
export const paxBeforeGlobal = (): Uint8Array =>
  archive(
    paxHeader([['path', 'pax'], ['SCHILY.xattr.user.a', 'b']]),
    paxHeader([['comment', 'c0ffee']], 'g'),
    rawEntry({ name: 'a' }, 'x'),
    gnuLong('L', LONG_COMPONENT),
    gnuLong('K', LONG_COMPONENT),
    paxHeader([['comment', 'c0ffee']], 'g'),
    rawHeader({ name: 'b', typeflag: '2', linkName: 'a' }),
    paxHeader([['path', 'nothing']]),
    paxHeader([['comment', 'c0ffee']], 'g'),
  );
export const paxGlobalXattr = (): Uint8Array => archive(paxHeader([['SCHILY.xattr.user.a', 'b'], ['LIBARCHIVE.xattr.user.c', 'no base64!']], 'g'), entries(file('a')));
export const paxGlobalHoles = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '100'], ['GNU.sparse.map', '0,1']], 'g'), entries(file('a', 'x')));
/** Nobody looks at the values. */
export const paxGlobalValues = (): Uint8Array => archive(paxHeader([['uid', 'nobody'], ['size', '-1'], ['mtime', '1.2.3']], 'g'), entries(file('a', 'x')));
/** A value of no length says nothing; the header block counts. */
export const paxEmptyValues = (): Uint8Array => archive(paxHeader([['mtime', ''], ['path', ''], ['uid', '']]), rawEntry({ name: 'a', uid: '0000007\0' }, 'x'));
export const paxGlobalAtEnd = (): Uint8Array => archive(entries(file('a', 'x')), paxHeader([['gid', '9']], 'g'));
export const paxBinaryCharset = (): Uint8Array => archive(paxHeader([['hdrcharset', 'BINARY'], ['path', NOT_UTF8], ['uname', '\udcff'], ['unknown.key', 'ignored\n1 x=']]), rawEntry({ name: 'short' }, 'x'));

/** All of these are the same file: "abc" at 512, "defg" at 4096, 10000 bytes in all. */
const RUNS: readonly (readonly [number, number])[] = [[512, 3], [4096, 4], [10_000, 0]];
const SPARSE = { size: 10_000, data: 'abcdefg' };
export const gnuSparse = (): Uint8Array => archive(rawEntry({ name: 'sparse', typeflag: 'S', magic: GNU, tail: gnuSparseTail(RUNS, SPARSE.size) }, SPARSE.data));
export const gnuSparseExtended = (): Uint8Array => {
  const pairs = Array.from({ length: 50 }, (_, i): readonly [number, number] => [i * 1024, 1]);
  const header = rawHeader({ name: 'sparse', typeflag: 'S', magic: GNU, size: 50, tail: gnuSparseTail(pairs.slice(0, 4), 51_200, true) });
  return archive(header, gnuSparseExtension(pairs.slice(4, 25), true), gnuSparseExtension(pairs.slice(25, 46), true), gnuSparseExtension(pairs.slice(46)), padded('x'.repeat(50)), entries(file('after', 'y')));
};
export const paxSparse00 = (): Uint8Array =>
  archive(
    paxHeader([['GNU.sparse.size', '10000'], ['GNU.sparse.numblocks', '3'], ...RUNS.flatMap(([offset, length]) => [['GNU.sparse.offset', `${offset}`] as const, ['GNU.sparse.numbytes', `${length}`] as const])]),
    rawEntry({ name: 'sparse' }, SPARSE.data),
  );
export const paxSparse01 = (): Uint8Array =>
  archive(paxHeader([['GNU.sparse.name', 'sparse'], ['GNU.sparse.size', '10000'], ['GNU.sparse.numblocks', '3'], ['GNU.sparse.map', RUNS.join(',')]]), rawEntry({ name: 'GNUSparseFile.0/sparse' }, SPARSE.data));
export const paxSparse10 = (): Uint8Array =>
  archive(
    paxHeader([['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.name', 'sparse'], ['GNU.sparse.realsize', '10000']]),
    rawEntry({ name: 'GNUSparseFile.0/sparse' }, concat([padded(`3\n${RUNS.flat().join('\n')}\n`), bytesOf(SPARSE.data)])),
    entries(file('after', 'y')),
  );
export const sparseOnlyHole = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '200000'], ['GNU.sparse.numblocks', '1'], ['GNU.sparse.map', '200000,0']]), rawEntry({ name: 'sparse' }));

/** A header that announces more than ustar can (8 GiB), in base-256 or pax, and nothing behind it. */
export const hugeHeaderGnu = (size = 9 * 2 ** 30): Uint8Array => rawHeader({ name: 'huge', magic: GNU, size: base256(size, 12) });
export const hugeHeaderPax = (size = 9 * 2 ** 30): Uint8Array => encodeTarHeader(file('huge', '', { size }));
/** The same with all its zeros behind it: for readers that do not look at them, this is fast. */
export async function* hugeFile(size = 9 * 2 ** 30): ByteStream {
  yield encodeTarHeader(file('huge', '', { size }));
  const zeros = new Uint8Array(1 << 20);
  for (let left = size + paddingOf(size); left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length));
  yield archive(entries(file('after', 'y')));
}

export const climbingPath = (): Uint8Array => archive(entries(file('../../etc/passwd', 'x')));
export const climbingPathInside = (): Uint8Array => archive(entries(file('a/b/../../../etc/passwd', 'x')));
export const climbingHardLink = (): Uint8Array => archive(entries(hardlink('shadow', '../../etc/shadow')));
/** Steps back and stays within. */
export const dotDotWithin = (): Uint8Array => archive(entries(file('a/b/../c', 'x')));
export const longComponent = (): Uint8Array => archive(entries(file('c'.repeat(256), 'x')));
export const longPath = (): Uint8Array => archive(entries(file(`${'p'.repeat(200)}/`.repeat(21), 'x')));
export const fileAsRoot = (): Uint8Array => archive(entries(file('./', 'x')));
export const symlinkToNothing = (): Uint8Array => archive(entries(symlink('a', '')));

export const wrongChecksum = (): Uint8Array => archive(rawHeader({ name: 'a', checksum: 1 }));
export const malformedNumber = (): Uint8Array => archive(rawHeader({ name: 'a', uid: '12x4567\0' }));
export const negativeSize = (): Uint8Array => archive(rawHeader({ name: 'a', magic: GNU, size: base256(-512, 12) }));
export const hugeNumber = (): Uint8Array => archive(rawHeader({ name: 'a', magic: GNU, size: base256(2n ** 62n, 12) }));
export const endlessPayload = (): Uint8Array => archive(rawHeader({ name: 'a', magic: GNU, size: base256(2 ** 53 - 1, 12) }));
export const unknownType = (): Uint8Array => archive(entries(file('a', 'x')), rawHeader({ name: 'label', typeflag: 'V', magic: GNU }));
export const paxRecordTooLong = (): Uint8Array => archive(rawEntry({ name: 'x', typeflag: 'x' }, paxRecord('path', 'name', 1)), rawEntry({ name: 'a' }));
export const paxRecordTooShort = (): Uint8Array => archive(rawEntry({ name: 'x', typeflag: 'x' }, paxRecord('path', 'name', -1)), rawEntry({ name: 'a' }));
/** Behind the end of the records the padding goes on as if it were one. */
export const paxRecordBeyondEnd = (): Uint8Array => archive(rawHeader({ name: 'x', typeflag: 'x', size: 8 }), padded('13 path=name\n'), rawEntry({ name: 'a' }));
export const paxWithoutNewline = (): Uint8Array => archive(rawEntry({ name: 'x', typeflag: 'x' }, '13 path=name!6 a=b\n'), rawEntry({ name: 'a' }));
export const paxWithoutEquals = (): Uint8Array => archive(rawEntry({ name: 'x', typeflag: 'x' }, '9 pathxx\n'), rawEntry({ name: 'a' }));
export const paxNul = (): Uint8Array => archive(paxHeader([['path', 'a\0b']]), rawEntry({ name: 'a' }));
export const paxNegativeSize = (): Uint8Array => archive(paxHeader([['size', '-1']]), rawEntry({ name: 'a' }));
export const paxMalformedTime = (): Uint8Array => archive(paxHeader([['mtime', '1.2.3']]), rawEntry({ name: 'a' }));
export const paxWithoutEntry = (): Uint8Array => archive(paxHeader([['path', 'a']]));
export const paxHuge = (): Uint8Array => archive(rawHeader({ name: 'x', typeflag: 'x', size: 2 ** 33 - 1 }));
export const paxGlobalRecordTooLong = (): Uint8Array => archive(rawEntry({ name: 'g', typeflag: 'g' }, paxRecord('comment', 'c0ffee', 1)), rawEntry({ name: 'a' }));
export const paxGlobalNul = (): Uint8Array => archive(paxHeader([['path', 'a\0b']], 'g'), rawEntry({ name: 'a' }));
export const paxGlobalHuge = (): Uint8Array => archive(rawHeader({ name: 'g', typeflag: 'g', size: 2 ** 33 - 1 }));
export const truncatedHeader = (): Uint8Array => entries(file('a')).subarray(0, 300);
export const truncatedPayload = (): Uint8Array => entries(file('a', new Uint8Array(1000))).subarray(0, 1200);
export const truncatedPadding = (): Uint8Array => entries(file('a', new Uint8Array(1000))).subarray(0, 1520);
export const zeroBlockInside = (): Uint8Array => concat([entries(file('a', 'x')), new Uint8Array(512), archive(entries(file('b', 'y')))]);
export const noTar = (): Uint8Array => bytesOf('this is not a tar archive. '.repeat(100));
export const sparseOverlap = (): Uint8Array => archive(rawEntry({ name: 'a', typeflag: 'S', magic: GNU, tail: gnuSparseTail([[0, 4], [2, 4]], 100) }, '12345678'));
export const sparseBeyondEnd = (): Uint8Array => archive(rawEntry({ name: 'a', typeflag: 'S', magic: GNU, tail: gnuSparseTail([[98, 4]], 100) }, '1234'));
export const sparseSumLies = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '100'], ['GNU.sparse.map', '0,9']]), rawEntry({ name: 'a' }, '1234'));
export const sparseOddMap = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '100'], ['GNU.sparse.map', '0,4,100']]), rawEntry({ name: 'a' }, '1234'));
export const sparseCountLies = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '100'], ['GNU.sparse.numblocks', '2'], ['GNU.sparse.map', '0,4']]), rawEntry({ name: 'a' }, '1234'));
export const sparseNotAlternating = (): Uint8Array => archive(paxHeader([['GNU.sparse.size', '100'], ['GNU.sparse.numbytes', '0'], ['GNU.sparse.offset', '4']]), rawEntry({ name: 'a' }, '1234'));
export const sparseMapEndless = (): Uint8Array => archive(paxHeader([['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', '9']]), rawEntry({ name: 'a' }, padded('3\n1\n')));

export interface TarCase {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly expected: 'ok' | ErrorCode;
}

const good = {
  simple, withDotSlash, absoluteNames, noEntries, noBytes, noEndBlocks, oneEndBlock, bytesAfterEnd, longNamesUstar, longNamesPax, longNamesGnu, gnuWithPrefix,
  nonAsciiNames, invalidUtf8Names, invalidUtf8LongNames, hardLinkBackward, hardLinkForward, hardLinkOutOfLayer, hardLinkWithSize, directoryWithSize,
  duplicateNames, missingParents, whiteouts, opaqueDirectory, xattrs, xattrsOfLibarchive, devices, emptyFiles, contiguousFile, fileTypeInMode, times, timesGnu,
  base256Numbers, largeIds, signedChecksum, v7Archive, paxGlobal, paxBeforeGlobal, paxGlobalXattr, paxGlobalHoles, paxGlobalValues, paxGlobalAtEnd, paxEmptyValues, paxBinaryCharset,
  gnuSparse, gnuSparseExtended, paxSparse00, paxSparse01, paxSparse10, sparseOnlyHole, dotDotWithin,
};
const corrupt = {
  hugeHeaderGnu, hugeHeaderPax, climbingPath, climbingPathInside, climbingHardLink, longComponent, longPath, fileAsRoot, symlinkToNothing, wrongChecksum,
  malformedNumber, negativeSize, hugeNumber, endlessPayload, paxRecordTooLong, paxRecordTooShort, paxRecordBeyondEnd, paxWithoutNewline, paxWithoutEquals, paxNul, paxNegativeSize, paxMalformedTime,
  paxWithoutEntry, paxGlobalRecordTooLong, paxGlobalNul, truncatedHeader, truncatedPayload, truncatedPadding, zeroBlockInside, noTar, sparseOverlap, sparseBeyondEnd, sparseSumLies, sparseOddMap, sparseCountLies,
  sparseNotAlternating, sparseMapEndless,
};

/** Every archive of this file that fits into memory. */
export function tarCases(): readonly TarCase[] {
  const list = (cases: Record<string, () => Uint8Array>, expected: TarCase['expected']): TarCase[] => Object.entries(cases).map(([name, make]) => ({ name, bytes: make(), expected }));
  return [...list(good, 'ok'), ...list(corrupt, 'CORRUPT'), ...list({ unknownType }, 'UNSUPPORTED'), ...list({ paxHuge, paxGlobalHuge }, 'LIMIT')];
}
