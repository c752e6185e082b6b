import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { LazypullError, wrapError } from '../core/errors.ts';
import type { FormatEntry, FormatOption } from '../core/format-entry.ts';
import type { FormatChoice, IndexingFormat, StoredImage } from '../core/format.ts';
import { integerArgument, sizeArgument } from './flags.ts';

/** A prefetch list is a list of names, not data. */
const PATTERN_FILE_LIMIT = 16 * 1024 * 1024;

/** The option that names formats: a list with commas, which may also be given several times. The first format is the default. */
export function formatsOption(formats: readonly FormatEntry[]): Option {
  const names = formats.map(({ name }) => name);
  const option = new Option('--format <names>', `the format to write; several with commas, if all but one leave layers as they are (default: ${names[0]})`);
  // Checked one by one, but shown and completed like any choice.
  return option.choices(names).argParser((text: string, before: readonly string[] | undefined) => {
    const items = text.split(',').map((item) => item.trim());
    if (items.some((item) => !names.includes(item))) throw new InvalidArgumentError(`Allowed choices are ${names.join(', ')}.`);
    return [...(before ?? []), ...items];
  });
}

/** Adds the options of every format; a flag that several formats know is added once, as the first of them has it. `flag` is how they are chosen. */
export function addFormatOptions(command: Command, formats: readonly FormatEntry[], flag = '--format'): void {
  const options = formats.flatMap((format) => format.options);
  for (const option of options) {
    if (options.find((other) => other.flag === option.flag) !== option) continue;
    const names = formats.filter((format) => format.options.some((other) => other.flag === option.flag)).map(({ name }) => name);
    command.addOption(commanderOption(option).helpGroup(`Options of ${flag} ${names.join(' and ')}:`));
  }
}

function commanderOption({ flag, kind, help, min, max, choices = [] }: FormatOption): Option {
  switch (kind) {
    case 'switch':
      return new Option(`--${flag}`, help);
    case 'patterns':
      return new Option(`--${flag} <file>`, help);
    case 'choice':
      return new Option(`--${flag} <name>`, help).choices(choices);
    case 'image':
      return new Option(`--${flag} <image>`, help);
    case 'integer':
      return new Option(`--${flag} <number>`, help).argParser(integerArgument(min ?? 0, max ?? Number.MAX_SAFE_INTEGER));
    case 'size':
      return new Option(`--${flag} <size>`, help).argParser(sizeArgument(min, max));
  }
}

/**
 * Loads the chosen formats and gathers their options from the flags. A flag goes to each of them that knows it; one that
 * none of them knows is a USAGE error, and so are two formats that both make new layers.
 */
export async function chooseFormats(
  formats: readonly FormatEntry[],
  names: readonly string[],
  flags: Readonly<Record<string, unknown>>,
  openImage?: (text: string) => Promise<StoredImage>,
): Promise<FormatChoice[]> {
  const chosen = [...new Set(names)].map((name) => {
    const entry = formats.find((format) => format.name === name);
    if (!entry) throw new LazypullError('USAGE', `unknown format ${name}`);
    return entry;
  });
  const rewriting = chosen.filter(({ rewrites }) => rewrites).map(({ name }) => name);
  if (rewriting.length > 1) throw new LazypullError('USAGE', `${rewriting.join(' and ')} both make new layers: an image can have only one of them`);
  const options = new Map<FormatEntry, Record<string, unknown>>(chosen.map((entry) => [entry, {}]));
  for (const flag of new Set(formats.flatMap((format) => format.options).map((option) => option.flag))) {
    const given = flags[camelCase(flag)];
    if (given === undefined) continue;
    const takers = chosen.flatMap((entry) => entry.options.filter((option) => option.flag === flag).map((option) => ({ entry, option })));
    if (takers.length === 0) throw new LazypullError('USAGE', `--${flag} is not an option of ${chosen.map(({ name }) => name).join(' or ')}`);
    const kinds = takers.map(({ option }) => option.kind);
    const value = kinds.includes('patterns') ? await readNames(String(given)) : kinds.includes('image') ? await openImage?.(String(given)) : given;
    for (const { entry, option } of takers) (options.get(entry) as Record<string, unknown>)[option.key] = value;
  }
  return Promise.all([...options].map(async ([entry, own]) => ({ format: await entry.load(), options: own })));
}

/** The same for one format that leaves layers as they are. */
export async function chooseIndexing(formats: readonly FormatEntry[], name: string, flags: Readonly<Record<string, unknown>>): Promise<FormatChoice<IndexingFormat>> {
  const [choice] = await chooseFormats(formats, [name], flags);
  if (choice?.format.kind !== 'indexing') throw new LazypullError('USAGE', `${name} makes new layers: use convert`);
  return { format: choice.format, options: choice.options };
}

/** Formats put whole files first. */
async function readNames(path: string): Promise<readonly string[]> {
  const [lines, { parseListLine }] = await Promise.all([readPatterns(path), import('../layer/list-line.ts')]);
  return lines.map((line) => parseListLine(line).pattern);
}

/** One glob per line, perhaps with the parts of the file that are meant; empty lines and lines that begin with # are passed over. */
export async function readPatterns(path: string): Promise<readonly string[]> {
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
