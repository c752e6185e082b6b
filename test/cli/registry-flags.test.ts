import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PassThrough } from 'node:stream';
import type { Io } from '../../src/cli/io.ts';
import { readPasswords, registryOptions, type RegistryFlags } from '../../src/cli/registry-flags.ts';

function io(stdin: string): Io {
  const input = new PassThrough();
  input.end(stdin);
  return { stdin: input, stdout: new PassThrough(), stderr: new PassThrough(), env: {}, program: 'lazypull', signal: new AbortController().signal };
}

describe('registry flags', () => {
  it('takes flags of one end before flags of both', () => {
    const flags: RegistryFlags = { plainHttp: true, tlsCa: 'all.pem', srcTlsCa: 'one.pem', dstAuthfile: 'dst.json', dstTlsSkipVerify: true };
    assert.deepEqual(registryOptions(flags, new Map(), 'src'), { plainHttp: true, tlsCa: 'one.pem' });
    assert.deepEqual(registryOptions(flags, new Map(), 'dst'), { plainHttp: true, tlsCa: 'all.pem', tlsSkipVerify: true, authFile: 'dst.json', direct: true });
    assert.deepEqual(registryOptions(flags, new Map()), { plainHttp: true, tlsCa: 'all.pem' });
  });

  it('reads from mirrors, and asks what it writes to itself', () => {
    const flags: RegistryFlags = { mirror: ['a.example', 'docker.io=https://b.example'], hostsDir: 'hosts' };
    assert.deepEqual(registryOptions(flags, new Map(), 'src'), { mirrors: ['a.example', 'docker.io=https://b.example'], hostsDir: 'hosts' });
    assert.deepEqual(registryOptions(flags, new Map()), { mirrors: ['a.example', 'docker.io=https://b.example'], hostsDir: 'hosts' });
    assert.deepEqual(registryOptions(flags, new Map(), 'dst'), { direct: true, hostsDir: 'hosts' });
  });

  it('reads one password whole, but for the newline of echo', async () => {
    for (const [stdin, password] of [['s3cret', 's3cret'], ['s3cret\n', 's3cret'], ['a\nb\n', 'a\nb\n'], [' pad ', ' pad ']] as const) {
      const passwords = await readPasswords({ username: 'u', passwordStdin: true }, io(stdin));
      assert.deepEqual(registryOptions({ username: 'u' }, passwords), { creds: { username: 'u', password } });
    }
  });

  it('reads two passwords, the source first, and keeps them apart', async () => {
    const flags = { srcUsername: 'a', dstUsername: 'b', passwordStdin: true };
    const passwords = await readPasswords(flags, io('one\ntwo\n'));
    assert.deepEqual(registryOptions(flags, passwords, 'src'), { creds: { username: 'a', password: 'one' } });
    assert.deepEqual(registryOptions(flags, passwords, 'dst'), { creds: { username: 'b', password: 'two' }, direct: true });
  });

  it('gives a login for one end to that end only', async () => {
    const flags = { dstUsername: 'b', passwordStdin: true };
    const passwords = await readPasswords(flags, io('two'));
    assert.deepEqual(registryOptions(flags, passwords, 'src'), {});
    assert.deepEqual(registryOptions(flags, passwords, 'dst'), { creds: { username: 'b', password: 'two' }, direct: true });
  });

  it('refuses half a login', async () => {
    const cases: [RegistryFlags, string, RegExp][] = [
      [{ username: 'u' }, '', /needs --password-stdin/],
      [{ passwordStdin: true }, 'x', /needs --username/],
      [{ username: 'u', passwordStdin: true }, '', /holds no password/],
      [{ username: 'u:p', passwordStdin: true }, 'x', /no colon/],
      [{ username: 'u', dstUsername: 'v', passwordStdin: true }, 'x', /--src-username/],
      [{ srcUsername: 'u', dstUsername: 'v', passwordStdin: true }, 'only one', /2 are needed/],
      [{ username: 'u', passwordStdin: true }, 'x'.repeat(70_000), /too long/],
    ];
    for (const [flags, stdin, message] of cases) await assert.rejects(readPasswords(flags, io(stdin)), { code: 'USAGE', message }, JSON.stringify(flags));
  });

  it('can be cancelled while it waits for a password', async () => {
    const stop = new AbortController();
    const waiting = readPasswords({ username: 'u', passwordStdin: true }, { ...io(''), stdin: new PassThrough(), signal: stop.signal });
    setImmediate(() => stop.abort());
    await assert.rejects(waiting, { code: 'CANCELLED' });
  });

  it('leaves standard input alone when no password is read from it', async () => {
    const untouched = { ...io(''), get stdin(): never { throw new Error('read'); } };
    assert.equal((await readPasswords({ plainHttp: true }, untouched)).size, 0);
  });
});
