import { LazypullError, printable } from '../core/errors.ts';

/** A value of a TOML file. Dates are not among them: no configuration that is read here has any. */
export type TomlValue = string | number | boolean | readonly TomlValue[] | TomlTable;
export interface TomlTable {
  readonly [key: string]: TomlValue;
}

type Table = Record<string, TomlValue>;

/** Deeper values are not configuration. */
const MAX_DEPTH = 32;
const ESCAPES: Readonly<Record<string, string>> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', e: '\u001b', '"': '"', '\\': '\\' };

/** Reads a file as configuration tools write them (toml.io 1.0). USAGE, with the line, where it is none. */
export function parseToml(text: string, path: string): TomlTable {
  return new Parser(text, path).document();
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value);
}

class Parser {
  readonly #text: string;
  readonly #path: string;
  #at = 0;
  /** Tables that have had their header: one may be opened by a table below it, but not twice. */
  readonly #opened = new Set<object>();
  /** Arrays of tables, which grow by headers; others do not. */
  readonly #lists = new Map<readonly TomlValue[], TomlValue[]>();

  constructor(text: string, path: string) {
    this.#text = text.replace(/^\uFEFF/, '').replaceAll('\r\n', '\n');
    this.#path = path;
  }

  document(): TomlTable {
    const root = table();
    let current = root;
    for (;;) {
      this.#blank(true);
      if (this.#at >= this.#text.length) return root;
      if (this.#take('[[')) current = this.#header(root, ']]');
      else if (this.#take('[')) current = this.#header(root, ']');
      else this.#pair(current, 0);
      this.#blank(false);
      if (this.#at < this.#text.length && !this.#take('\n')) throw this.#wrong('something is left on the line');
    }
  }

  #header(root: Table, end: ']' | ']]'): Table {
    const keys = this.#keys();
    if (!this.#take(end)) throw this.#wrong(`a header ends with ${end}`);
    const last = keys.pop() as string;
    const parent = this.#walk(root, keys);
    const there = own(parent, last);
    if (end === ']]') {
      const list = there === undefined ? [] : Array.isArray(there) ? this.#lists.get(there as readonly TomlValue[]) : undefined;
      if (!list) throw this.#wrong(`${printable(last)} is not a list of tables`);
      const made = table();
      list.push(made);
      this.#lists.set(list, list);
      parent[last] = list;
      return made;
    }
    const found = this.#walk(parent, [last]);
    if (this.#opened.has(found) || Array.isArray(there)) throw this.#wrong(`${printable(last)} is there twice`);
    this.#opened.add(found);
    return found;
  }

  /** Goes down, making tables that are not there. A list of tables stands for its last one. */
  #walk(from: Table, keys: readonly string[]): Table {
    let at = from;
    for (const key of keys) {
      const there = own(at, key);
      const next = Array.isArray(there) && this.#lists.has(there) ? there.at(-1) : there;
      if (next === undefined) at = at[key] = table();
      else if (isTable(next)) at = next as Table;
      else throw this.#wrong(`${printable(key)} is not a table`);
    }
    return at;
  }

  #pair(into: Table, depth: number): void {
    const keys = this.#keys();
    const last = keys.pop() as string;
    if (!this.#take('=')) throw this.#wrong('a key is followed by =');
    this.#blank(false);
    const target = this.#walk(into, keys);
    if (own(target, last) !== undefined) throw this.#wrong(`${printable(last)} is there twice`);
    target[last] = this.#value(depth);
  }

  /** `a."b.c".d`, with the blanks around it. */
  #keys(): string[] {
    const keys: string[] = [];
    do {
      this.#blank(false);
      const bare = this.#match(/[A-Za-z0-9_-]+/y);
      if (bare !== undefined) keys.push(bare);
      else if (this.#take('"')) keys.push(this.#basic());
      else if (this.#take("'")) keys.push(this.#literal());
      else throw this.#wrong('a key is expected');
      this.#blank(false);
    } while (this.#take('.'));
    return keys;
  }

  #value(depth: number): TomlValue {
    if (depth > MAX_DEPTH) throw this.#wrong('values are nested too deep');
    if (this.#take('"""')) return this.#long('"""').replace(/\\[ \t]*\n\s*/g, '').replace(/\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)/gs, (_, code: string) => this.#escape(code));
    if (this.#take("'''")) return this.#long("'''");
    if (this.#take('"')) return this.#basic();
    if (this.#take("'")) return this.#literal();
    if (this.#take('[')) return this.#list(depth);
    if (this.#take('{')) return this.#inline(depth);
    const word = this.#match(/[A-Za-z0-9_+.:-]+/y) ?? '';
    if (word === 'true' || word === 'false') return word === 'true';
    if (/^[+-]?\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?$/.test(word)) return Number(word.replaceAll('_', ''));
    if (/^0(?:x[0-9a-fA-F_]+|o[0-7_]+|b[01_]+)$/.test(word)) return Number(word.replaceAll('_', ''));
    throw this.#wrong(`"${printable(word)}" is no value`);
  }

  #list(depth: number): TomlValue[] {
    const list: TomlValue[] = [];
    for (;;) {
      this.#blank(true);
      if (this.#take(']')) return list;
      list.push(this.#value(depth + 1));
      this.#blank(true);
      if (this.#take(']')) return list;
      if (!this.#take(',')) throw this.#wrong('values of a list are separated by commas');
    }
  }

  #inline(depth: number): Table {
    const made = table();
    this.#blank(false);
    if (this.#take('}')) return made;
    for (;;) {
      this.#pair(made, depth + 1);
      this.#blank(false);
      if (this.#take('}')) return made;
      if (!this.#take(',')) throw this.#wrong('pairs of an inline table are separated by commas');
    }
  }

  #basic(): string {
    const raw = this.#match(/(?:[^"\\\n]|\\.)*(?=")/y);
    if (raw === undefined) throw this.#wrong('a string does not end on its line');
    this.#at += 1;
    return raw.replace(/\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)/g, (_, code: string) => this.#escape(code));
  }

  #literal(): string {
    const raw = this.#match(/[^'\n]*(?=')/y);
    if (raw === undefined) throw this.#wrong('a string does not end on its line');
    this.#at += 1;
    return raw;
  }

  #long(end: string): string {
    const stop = this.#text.indexOf(end, this.#at);
    if (stop < 0) throw this.#wrong('a string does not end');
    const raw = this.#text.slice(this.#at, stop).replace(/^\n/, '');
    this.#at = stop + end.length;
    return raw;
  }

  #escape(code: string): string {
    const simple = ESCAPES[code];
    if (simple !== undefined) return simple;
    const point = /^[uU]./.test(code) ? Number.parseInt(code.slice(1), 16) : Number.NaN;
    if (!(point <= 0x10ffff)) throw this.#wrong(`\\${printable(code)} is no escape`);
    return String.fromCodePoint(point);
  }

  /** Blanks and comments, and with `lines` the ends of lines. */
  #blank(lines: boolean): void {
    this.#match(lines ? /(?:[ \t\n]|#[^\n]*)*/y : /[ \t]*(?:#[^\n]*)?/y);
  }

  #take(token: string): boolean {
    if (!this.#text.startsWith(token, this.#at)) return false;
    this.#at += token.length;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #wrong(why: string): LazypullError {
    const line = this.#text.slice(0, this.#at).split('\n').length;
    return new LazypullError('USAGE', `not TOML: line ${line}: ${why}`, { path: this.#path });
  }
}

function table(): Table {
  return Object.create(null) as Table;
}

function own(at: Table, key: string): TomlValue | undefined {
  return at[key];
}
