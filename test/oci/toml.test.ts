import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { isTable, parseToml } from '../../src/oci/toml.ts';

const read = (text: string): unknown => JSON.parse(JSON.stringify(parseToml(text, 'x.toml')));

describe('parseToml', () => {
  it('reads what configuration of container tools is made of', () => {
    assert.deepEqual(read(`
      # a comment
      server = "https://r.example" # another
      count = 1_000
      hex = 0x1f
      negative = -3.5e2
      "quoted key" = 'C:\\raw'
      a.b . c = true
      list = [ "one", 'two', # of them
        "three", ]
      inline = { x = 1, "y.z" = [false] }
      escaped = "tab\\t quote\\" \\u00e9 \\U0001F600"
      long = """
first \\
   second"""
      raw = '''
a\\b'''

      [host."https://m.example:5000"]
      capabilities = ["pull"]
      [host."https://m.example:5000".header]
      X-One = ["a", "b"]

      [[registry]]
      location = "a"
      [[registry.mirror]]
      location = "m1"
      [[registry.mirror]]
      location = "m2"
      [[registry]]
      location = "b"
    `), {
      server: 'https://r.example', count: 1000, hex: 31, negative: -350, 'quoted key': 'C:\\raw', a: { b: { c: true } }, list: ['one', 'two', 'three'],
      inline: { x: 1, 'y.z': [false] }, escaped: 'tab\t quote" é 😀', long: 'first second', raw: 'a\\b',
      host: { 'https://m.example:5000': { capabilities: ['pull'], header: { 'X-One': ['a', 'b'] } } },
      registry: [{ location: 'a', mirror: [{ location: 'm1' }, { location: 'm2' }] }, { location: 'b' }],
    });
    assert.deepEqual(read('\uFEFFa = 1\r\nb = 2\r\n'), { a: 1, b: 2 });
    assert.deepEqual(read(''), {});
  });

  it('says on which line it stops to be TOML', () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ['a = 1\na = 2', /no TOML in line 2: /], ['[a]\n[b]\n[a]', /line 3: /], ['a = 1\n[a]', /line 2: /], ['a = 1 b = 2', /line 1: /], ['= 1', /line 1: /], ['a 1', /line 1: /],
      ['a = ', /no TOML/], ['a = maybe', /line 1: /], ['a = "x', /no TOML/], ["a = 'x\n'", /no TOML/], ['a = """x', /no TOML/], ['a = [1 2]', /no TOML/], ['a = {b = 1 c = 2}', /no TOML/],
      ['[a', /no TOML/], ['[[a]', /no TOML/], ['a = "\\q"', /no TOML/], ['a = "\\UFFFFFFFF"', /no TOML/], ['a = [1]\n[[a]]', /line 2: /], [`a = ${'['.repeat(100)}`, /no TOML/],
      [`a = ${'['.repeat(40)}${']'.repeat(40)}`, /no TOML/],
    ];
    for (const [text, message] of cases) {
      assert.throws(() => parseToml(text, 'x.toml'), (error: LazypullError) => {
        assert.equal(error.code, 'USAGE');
        assert.match(error.message, message, JSON.stringify(text));
        assert.doesNotMatch(error.message, /\n/);
        return true;
      });
    }
  });

  it('keeps names of objects for values', () => {
    const { constructor: made, __proto__: proto } = parseToml('constructor = 1\n__proto__ = 2', 'x') as Record<string, unknown>;
    assert.deepEqual([made, proto], [1, 2]);
  });

  it('takes no date for a table', () => {
    assert.deepEqual(Object.values(parseToml('a = 2024-01-01\nb = {}\nc = []', 'x')).map(isTable), [false, true, false]);
  });

  it('never fails in any other way', () => {
    const piece = fc.constantFrom('[', ']', '[[', ']]', '{', '}', '"', "'", '"""', "'''", '=', '.', ',', '\n', '#', ' ', 'a', 'b', '1', 'true', '\\', '\\u', 'é', '__proto__');
    fc.assert(fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      try {
        parseToml(pieces.join(''), 'x');
      } catch (error) {
        assert.ok(error instanceof LazypullError && error.code === 'USAGE', String(error));
      }
    }));
  });

  it('takes strings back that JSON wrote', () => {
    fc.assert(fc.property(fc.string(), (text) => {
      assert.equal(parseToml(`a = ${JSON.stringify(text).replaceAll('\u007f', '\\u007f')}`, 'x')['a'], text);
    }));
  });
});
