import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../src/core/errors.ts';
import { parseToml } from '../../src/oci/toml.ts';

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
      ['a = 1\na = 2', /line 2: a is there twice/], ['[a]\n[b]\n[a]', /line 3: a is there twice/], ['a = 1\n[a]', /line 2: a is not a table/],
      ['a = 1 b = 2', /line 1: something is left/], ['= 1', /a key is expected/], ['a 1', /followed by =/], ['a = ', /is no value/], ['a = maybe', /"maybe" is no value/],
      ['a = "x', /does not end/], ["a = 'x\n'", /does not end/], ['a = """x', /does not end/], ['a = [1 2]', /commas/], ['a = {b = 1 c = 2}', /commas/], ['[a', /ends with \]/],
      ['[[a]', /ends with \]\]/], ['a = "\\q"', /no escape/], ['a = "\\UFFFFFFFF"', /no escape/], ['a = [1]\n[[a]]', /not a list of tables/], [`a = ${'['.repeat(100)}`, /too deep/],
    ];
    for (const [text, message] of cases) assert.throws(() => parseToml(text, 'x.toml'), { code: 'USAGE', message }, JSON.stringify(text));
  });

  it('keeps names of objects for values', () => {
    const { constructor: made, __proto__: proto } = parseToml('constructor = 1\n__proto__ = 2', 'x') as Record<string, unknown>;
    assert.deepEqual([made, proto], [1, 2]);
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
