import { parse, TomlDate, TomlError, type TomlTableWithoutBigInt, type TomlValueWithoutBigInt } from 'smol-toml';
import { LazypullError, printable } from '../core/errors.ts';

export type TomlValue = TomlValueWithoutBigInt;
export type TomlTable = TomlTableWithoutBigInt;

/** Deeper values are not configuration. */
const MAX_DEPTH = 32;

/** Reads a file as configuration tools write them (toml.io 1.0). USAGE, with the line, where it is none. */
export function parseToml(text: string, path: string): TomlTable {
  try {
    return parse(text.replace(/^\uFEFF/, ''), { maxDepth: MAX_DEPTH });
  } catch (error) {
    // What the library says goes on with the lines around it.
    const [why = ''] = (error instanceof Error ? error.message : String(error)).replace(/^Invalid TOML document: /, '').split('\n');
    const place = error instanceof TomlError ? ` in line ${error.line}` : '';
    throw new LazypullError('USAGE', `no TOML${place}: ${printable(why)}`, { path, cause: error });
  }
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof TomlDate);
}
