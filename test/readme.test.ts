import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EXIT } from '../src/cli/exit-codes.ts';
import { builtinFormats } from '../formats/builtin.ts';
import { run } from './cli/harness.ts';
import { cannotMount } from './mount/fuse-mounted.ts';
import { PROGRAM } from './support/peers-cli.ts';
import { built, root } from './support/root.ts';

/*
 * What README.md shows is what happens. Its `console` blocks are run in order and compared with the output shown
 * (UPDATE_README=1 writes it anew), its `ts` block is compiled and run, and the commands in its `sh` blocks are parsed.
 */

const FILE = join(root, 'README.md');
const UPDATE = process.env['UPDATE_README'] === '1';
/** Commands that look at this machine only, and what they end with where nothing is mounted; for root the cache may be elsewhere, but `ls` changes nothing. */
const LOCAL: ReadonlyMap<string, number> = new Map([['ps', 0], ['cache', 0]]);

interface Block {
  readonly language: string;
  readonly text: string;
}

function blocks(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map((match) => ({ language: match[1] as string, text: match[2] as string }));
}

/** Takes out what differs from run to run: times, and the order in which requests were counted. */
function normalise(output: string): string {
  return output.replace(/ +\d+\.\d s\b/g, ' T s').replace(/\b\d+ requests/g, 'N requests');
}

describe('README.md', () => {
  let folder: string;
  const markdown = readFileSync(FILE, 'utf8');
  const env = (): NodeJS.ProcessEnv => ({ ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env['PATH'] ?? ''}`, NO_COLOR: '1', LAZYPULL_CACHE_DIR: join(folder, 'cache'), LAZYPULL_RUNTIME_DIR: join(folder, 'mounts') });

  before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'lazypull-readme-')));
    mkdirSync(join(folder, 'bin'));
    const script = (name: string, body: string): void => {
      writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${body}\n`);
      chmodSync(join(folder, 'bin', name), 0o755);
    };
    script('lazypull', `exec '${process.execPath}' '${PROGRAM}' "$@"`);
    // npm would look for package.json here; what it would start is all that matters.
    script('npm', `[ "$*" = 'run -s demo' ] || exit 99\nexec '${process.execPath}' '${join(built, 'fixtures', 'demo.js')}'`);
    cpSync(join(root, 'fixtures', 'corpus'), join(folder, 'fixtures', 'corpus'), { recursive: true });
  });
  after(() => rmSync(folder, { recursive: true }));

  const consoles = blocks(markdown).filter(({ language }) => language === 'console');
  const mounting = consoles.filter(({ text }) => text.includes('lazypull mount'));

  function check(block: Block): void {
    let got = '';
    for (const line of block.text.split('\n').filter((shown) => shown.startsWith('$ '))) {
      const { status, stdout } = spawnSync('sh', ['-c', `{ ${line.slice(2)}; } 2>&1`], { cwd: folder, env: env(), encoding: 'utf8' });
      assert.equal(status, 0, `${line}\n${stdout}`);
      got += `${line}\n${stdout.replaceAll(folder, '/home/me')}`;
    }
    if (UPDATE) writeFileSync(FILE, readFileSync(FILE, 'utf8').replace(block.text, () => got));
    else assert.equal(normalise(block.text), normalise(got));
  }

  it('shows what its commands print', () => {
    assert.ok(consoles.length >= 5);
    for (const block of consoles) if (!mounting.includes(block)) check(block);
  });

  it('shows what its commands print that mount', { skip: cannotMount }, () => {
    assert.equal(mounting.length, 1);
    try {
      for (const block of mounting) check(block);
    } finally {
      spawnSync('umount', ['-l', join(folder, 'mnt')]);
    }
  });

  it('has a library example that compiles and runs', () => {
    const example = blocks(markdown).find(({ language }) => language === 'ts')?.text as string;
    assert.ok(example.trim().split('\n').filter((line) => line !== '').length <= 10, 'ten lines');
    const user = join(folder, 'user');
    const installed = join(user, 'node_modules', 'lazypull');
    mkdirSync(installed, { recursive: true });
    cpSync(join(root, 'package.json'), join(installed, 'package.json'));
    symlinkSync(built, join(installed, 'dist'));
    symlinkSync(join(folder, 'fixtures'), join(user, 'fixtures'));
    writeFileSync(join(user, 'package.json'), '{"type":"module"}');
    writeFileSync(join(user, 'example.ts'), example);
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')];
    const tsc = spawnSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ...options, 'example.ts'], { cwd: user, encoding: 'utf8' });
    assert.equal(tsc.status, 0, tsc.stdout);
    const ran = spawnSync(process.execPath, ['example.js'], { cwd: user, encoding: 'utf8' });
    assert.equal(ran.status, 0, ran.stderr);
    assert.match(ran.stdout, /^\d+ bytes became \d+\ntiny\n \{ requests: \d+, bytes: \d+ \}\n$/);
  });

  it('has recipes whose commands exist', async () => {
    const list = join(folder, 'hot.txt');
    writeFileSync(list, 'usr/bin/*\n');
    const commands = blocks(markdown)
      .filter(({ language }) => language === 'sh')
      .flatMap(({ text }) => text.split('\n'))
      .map((line) => /(?:^|\$\()(lazypull [^)<|]*)/.exec(line)?.[1])
      .filter((command) => command !== undefined);
    assert.ok(commands.length >= 9);
    for (const command of commands) {
      const argv = command.trim().replace('"$image"', 'registry.example/app:1').replace('hot.txt', list).split(' ').slice(1);
      // With everything cancelled beforehand, what is understood ends with 130, and what is not with 2. What looks at this machine only is done before it hears of that.
      const { code, stderr } = await run(argv, { signal: AbortSignal.abort(), stdin: 'secret\n', env: { HOME: folder, PATH: process.env['PATH'] ?? '', XDG_RUNTIME_DIR: folder, XDG_CACHE_HOME: folder } });
      const expected = LOCAL.get(argv[0] as string) ?? EXIT.CANCELLED;
      assert.equal(code, expected, `${command}: ${stderr}`);
    }
  });

  it('lists every exit code and every format', () => {
    for (const code of new Set([0, 143, ...Object.values(EXIT)])) assert.match(markdown, new RegExp(`^\\| (?:\\d+, )?${code}(?:, \\d+)? \\|`, 'm'));
    for (const { name } of builtinFormats) assert.match(markdown, new RegExp(`^\\| \`${name}\` \\|`, 'm'));
  });

  it('links to files that exist', () => {
    const links = [...markdown.matchAll(/\]\((?!https?:|#)([^)#]+)\)/g)].map((match) => match[1] as string);
    assert.ok(links.length > 0);
    for (const link of links) assert.ok(existsSync(join(root, link)), link);
  });
});
