import { readFile } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import { LazypullError, wrapError } from '../core/errors.ts';
import type { FormatEntry, FormatOption } from '../core/format-entry.ts';
import type { Format } from '../core/types.ts';
import { integerArgument, sizeArgument } from './flags.ts';

/** A prefetch list is a list of names, not data. */
const PATTERN_FILE_LIMIT = 16 * 1024 * 1024;

/** Adds the options of every format; a flag that several formats know is added once. */
export function addFormatOptions(command: Command, formats: readonly FormatEntry[]): void {
  const added = new Set<string>();
  for (const { name, options } of formats) {
    for (const option of options) {
      if (!added.has(option.flag)) command.addOption(commanderOption(option).helpGroup(`Options of --format ${name}:`));
      added.add(option.flag);
    }
  }
}

function commanderOption({ flag, kind, help, min, max }: FormatOption): Option {
  switch (kind) {
    case 'switch':
      return new Option(`--${flag}`, help);
    case 'patterns':
      return new Option(`--${flag} <file>`, help);
    case 'integer':
      return new Option(`--${flag} <number>`, help).argParser(integerArgument(min ?? 0, max ?? Number.MAX_SAFE_INTEGER));
    case 'size':
      return new Option(`--${flag} <size>`, help).argParser(sizeArgument(min, max));
  }
}

/** Loads the chosen format and gathers its options from the flags; a flag of another format is a USAGE error. */
export async function chooseFormat(
  formats: readonly FormatEntry[],
  name: string,
  flags: Readonly<Record<string, unknown>>,
): Promise<{ readonly format: Format; readonly options: Readonly<Record<string, unknown>> }> {
  const entry = formats.find((format) => format.name === name);
  if (!entry) throw new LazypullError('USAGE', `unknown format ${name}`);
  const own = new Map(entry.options.map((option) => [option.flag, option]));
  const options: Record<string, unknown> = {};
  for (const { flag } of formats.flatMap((format) => format.options)) {
    const value = flags[camelCase(flag)];
    if (value === undefined) continue;
    const option = own.get(flag);
    if (!option) throw new LazypullError('USAGE', `--${flag} is not an option of --format ${name}`);
    options[option.key] = option.kind === 'patterns' ? await readPatterns(String(value)) : value;
  }
  return { format: await entry.load(), options };
}

/** One glob per line; empty lines and lines that begin with # are passed over. */
async function readPatterns(path: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw wrapError(error, 'IO', 'cannot read the list of patterns', { path });
  }
  if (text.length > PATTERN_FILE_LIMIT) throw new LazypullError('LIMIT', 'list of patterns is longer than 16 MiB', { path });
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** As commander names what it parsed. */
function camelCase(flag: string): string {
  return flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}
