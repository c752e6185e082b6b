import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { encodeName } from '../../src/core/bytes.ts';
import { tarCases } from '../support/tar-corpus.ts';
import { readTar, type ReadEntry } from '../support/tar-read.ts';

// Held against Python's tarfile, an implementation that shares nothing with others.

const SCRIPT = `
import sys, json, hashlib, tarfile
kinds = {b'0': 'file', b'\\0': 'file', b'7': 'file', b'S': 'file', b'1': 'hardlink', b'2': 'symlink', b'3': 'char', b'4': 'block', b'5': 'directory', b'6': 'fifo'}
raw = lambda text: text.encode('utf-8', 'surrogateescape').hex()
def entries(path):
    with tarfile.open(path, 'r:', encoding='utf-8', errors='surrogateescape') as archive:
        for m in archive:
            device = m.ischr() or m.isblk()
            body = archive.extractfile(m).read() if m.isreg() else b''
            yield dict(path=raw(m.name), linkName=raw(m.linkname) if m.islnk() or m.issym() else '', type=kinds[m.type], mode=m.mode, uid=m.uid, gid=m.gid,
                userName=raw(m.uname), groupName=raw(m.gname), mtime=m.mtime, major=m.devmajor if device else 0, minor=m.devminor if device else 0, size=m.size if m.isreg() else 0,
                xattrs={raw(k[13:]): raw(v) for k, v in m.pax_headers.items() if k.startswith('SCHILY.xattr.')}, sha256=hashlib.sha256(body).hexdigest())
for path in sys.argv[1:]:
    try:
        print(json.dumps(list(entries(path))))
    except tarfile.TarError as error:
        print(json.dumps(str(error)))
`;

const APPLIES = 'it applies global headers as POSIX says; containers do not see that';

/** What tarfile sees otherwise, and why that is not followed. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  xattrsOfLibarchive: 'it knows SCHILY.xattr only',
  devices: 'it does not know SCHILY.devmajor and devminor',
  timesGnu: 'it takes the atime and ctime of a GNU header for a name prefix',
  paxEmptyValues: 'it takes no value for the value zero, or the empty string',
  paxGlobal: APPLIES,
  paxGlobalXattr: APPLIES,
  paxGlobalHoles: APPLIES,
  paxGlobalValues: 'it applies global headers as POSIX says, and takes values that are no numbers for zero',
  paxBeforeGlobal: 'it keeps the records in front of a global header; containers do not see them',
  paxGlobalAtEnd: 'it wants an entry behind a global header',
};

function comparable({ entry, body }: ReadEntry): object {
  const hex = (name: string): string => Buffer.from(encodeName(name)).toString('hex');
  return {
    // tarfile takes trailing slashes off.
    path: hex(entry.path.replace(/\/+$/, '')),
    linkName: hex(entry.linkName),
    type: entry.type,
    mode: entry.rawMode,
    uid: entry.uid,
    gid: entry.gid,
    userName: hex(entry.userName),
    groupName: hex(entry.groupName),
    // A double, there.
    mtime: entry.mtime.seconds + entry.mtime.nanoseconds / 1e9,
    major: entry.major,
    minor: entry.minor,
    size: entry.size,
    xattrs: Object.fromEntries([...entry.xattrs].map(([name, value]) => [hex(name), Buffer.from(value).toString('hex')])),
    sha256: createHash('sha256').update(body).digest('hex'),
  };
}

const python = spawnSync('python3', ['-c', 'import tarfile'], { encoding: 'utf8' });

describe('Python tarfile', { skip: python.status === 0 ? false : 'python3 is not here' }, () => {
  const cases = tarCases().filter(({ expected, bytes }) => expected === 'ok' && bytes.length > 0);
  let dir = '';
  let lines: string[] = [];

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'lazypull-tar-'));
    for (const { name, bytes } of cases) writeFileSync(join(dir, name), bytes);
    const run = spawnSync('python3', ['-c', SCRIPT, ...cases.map(({ name }) => join(dir, name))], { encoding: 'utf8' });
    assert.equal(run.status, 0, run.stderr);
    lines = run.stdout.trim().split('\n');
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  for (const [index, { name, bytes }] of cases.entries()) {
    const why = EXCEPTIONS[name];
    it(why ? `sees something else in ${name}: ${why}` : `sees the same in ${name}`, async () => {
      const ours = (await readTar(bytes)).entries.map(comparable);
      const theirs = JSON.parse(lines[index] ?? 'null');
      if (why) assert.notDeepEqual(ours, theirs);
      else assert.deepEqual(ours, theirs);
    });
  }
});
