import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LazypullError } from '../../../src/core/errors.ts';
import { decodeFooter, decodeModtime, decodeToc, encodeFooter, encodeModtime, encodeTocEntry, TOC_EMPTY, TOC_HEAD, TOC_TAIL, type TocEntry } from '../../../formats/estargz/layout.ts';

const FOOTER_51 = '1f8b08040000000000ff1a00534716003030303030303030303030303038343553544152475a010000ffff0000000000000000';
const FOOTER_47 = '1f8b08040000000000ff16003030303030303030303030303038343553544152475a010000ffff0000000000000000';
const FOOTER_46 = '1f8b08040000000000ff15005347110053544152475a45585445524e414c544f43010000ffff0000000000000000';

test('footers equal the format notes byte for byte, both ways', () => {
  for (const [hex, footer] of [
    [FOOTER_51, { kind: 'estargz', tocOffset: 2117 }],
    [FOOTER_47, { kind: 'legacy', tocOffset: 2117 }],
    [FOOTER_46, { kind: 'external' }],
  ] as const) {
    assert.equal(Buffer.from(encodeFooter(footer)).toString('hex'), hex);
    assert.deepEqual(decodeFooter(Buffer.concat([Buffer.alloc(60, 7), Buffer.from(hex, 'hex')])), footer);
    assert.deepEqual(decodeFooter(Buffer.from(hex, 'hex')), footer);
  }
});

test('a footer with any byte changed is no footer, except for the digits of its offset', () => {
  const good = Buffer.from(FOOTER_51, 'hex');
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x80;
    assert.equal(decodeFooter(bad), undefined, `byte ${at}`);
  }
  const upper = Buffer.from(encodeFooter({ kind: 'estargz', tocOffset: 0xabcdef }));
  upper.write('ABCDEF', 26, 'latin1');
  assert.deepEqual(decodeFooter(upper), { kind: 'estargz', tocOffset: 0xabcdef });
});

test('an offset above 2^53-1 is no footer', () => {
  const footer = Buffer.from(FOOTER_51, 'hex');
  footer.write('ffffffffffffffff', 16, 'latin1');
  assert.equal(decodeFooter(footer), undefined);
});

test('the TOC of the format notes is written byte for byte', () => {
  const entries: TocEntry[] = [
    { name: '.no.prefetch.landmark', type: 'reg', size: 1, offset: 535, digest: 'sha256:dc0e', chunkDigest: 'sha256:dc0e', uid: 0, gid: 0, mode: 0 },
    { name: 'hi.txt', type: 'reg', size: 3, modtime: '2023-11-14T22:13:20Z', mode: 420, offset: 1582, digest: 'sha256:98ea', chunkDigest: 'sha256:98ea' },
  ];
  const json = `${TOC_HEAD}${entries.map(encodeTocEntry).join(',')}${TOC_TAIL}`;
  assert.equal(
    json,
    JSON.stringify(
      {
        version: 1,
        entries: [
          { name: '.no.prefetch.landmark', type: 'reg', size: 1, offset: 535, digest: 'sha256:dc0e', chunkDigest: 'sha256:dc0e' },
          { name: 'hi.txt', type: 'reg', size: 3, modtime: '2023-11-14T22:13:20Z', mode: 420, offset: 1582, digest: 'sha256:98ea', chunkDigest: 'sha256:98ea' },
        ],
      },
      null,
      '\t',
    ),
  );
  assert.deepEqual(JSON.parse(TOC_EMPTY), { version: 1, entries: [] });
});

test('any record survives encode and decode', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 });
  const count = fc.nat(2 ** 40).map((n) => n + 1);
  const record = fc.record(
    {
      name: text,
      type: fc.constantFrom('dir', 'reg', 'symlink', 'hardlink', 'char', 'block', 'fifo', 'chunk'),
      size: count,
      modtime: fc.constant('2023-11-14T22:13:20Z'),
      linkName: text,
      mode: count,
      uid: count,
      userName: text,
      offset: count,
      innerOffset: count,
      xattrs: fc.dictionary(text, fc.constant('AAEC'), { minKeys: 1, maxKeys: 4 }),
      digest: text,
      chunkOffset: count,
      chunkSize: count,
      chunkDigest: text,
    },
    { requiredKeys: ['name', 'type'] },
  );
  fc.assert(
    fc.property(fc.array(record, { maxLength: 5 }), (records) => {
      const json = `${records.length === 0 ? TOC_EMPTY : `${TOC_HEAD}${records.map((r) => encodeTocEntry(r as TocEntry)).join(',')}${TOC_TAIL}`}`;
      assert.doesNotMatch(json, /[<>&\u2028\u2029]/);
      assert.deepEqual(decodeToc(Buffer.from(json)), JSON.parse(JSON.stringify(records)));
    }),
    { numRuns: 300 },
  );
});

test('a TOC that is not one is CORRUPT', () => {
  for (const json of ['', 'null', '[]', '{"version":2,"entries":[]}', '{"version":1,"entries":{}}', '{"version":1,"entries":[3]}', '{"version":1,"entries":[{"name":"a"}]}',
    '{"version":1,"entries":[{"name":"a","type":"sock"}]}', '{"version":1,"entries":[{"name":"a","type":"reg","size":-1}]}', '{"version":1,"entries":[{"name":"a","type":"reg","size":1e300}]}',
    '{"version":1,"entries":[{"name":"a","type":"reg","offset":"7"}]}', '{"version":1,"entries":[{"name":"a","type":"reg","xattrs":{"a":1}}]}', '{"version":1,"entries":[]}x']) {
    assert.throws(() => decodeToc(Buffer.from(json)), (error) => error instanceof LazypullError && error.code === 'CORRUPT', json);
  }
  assert.deepEqual(decodeToc(Buffer.from('{"version":1,"entries":null,"later":[]}')), []);
});

test('times are rounded to nearest, and read in every RFC 3339 form', () => {
  assert.equal(encodeModtime(0, 0), '1970-01-01T00:00:00Z');
  assert.equal(encodeModtime(20, 700_000_000), '1970-01-01T00:00:21Z');
  assert.equal(encodeModtime(20, 499_999_999), '1970-01-01T00:00:20Z');
  assert.equal(encodeModtime(-1, 0), '1969-12-31T23:59:59Z');
  assert.equal(encodeModtime(253_402_300_799, 0), '9999-12-31T23:59:59Z');
  assert.equal(encodeModtime(253_402_300_800, 0), undefined);
  assert.equal(encodeModtime(-62_167_219_201, 0), undefined);
  assert.deepEqual(decodeModtime('2023-11-14T22:13:20Z', 'x'), { seconds: 1_700_000_000, nanoseconds: 0 });
  assert.deepEqual(decodeModtime('2023-11-15T00:13:20.0000005+02:00', 'x'), { seconds: 1_700_000_000, nanoseconds: 500 });
  for (const bad of ['', 'yesterday', '2023-13-01T00:00:00Z', '2023-11-14 22:13:20Z', '2023-11-14T22:13:20']) {
    assert.throws(() => decodeModtime(bad, 'x'), LazypullError, bad);
  }
});
