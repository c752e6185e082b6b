import { InvalidArgumentError, type Command } from 'commander';
import { parseSize } from './units.ts';

/** A whole number within bounds, for commander. */
export function integerArgument(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** Bytes with a unit suffix, within bounds, for commander. */
export function sizeArgument(min = 0, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    let size: number;
    try {
      size = parseSize(text);
    } catch {
      throw new InvalidArgumentError('It must be a size such as 4096, 64K, 500M, 10G or 10GB.');
    }
    if (size >= min && size <= max) return size;
    throw new InvalidArgumentError(`It must be from ${min} to ${max} bytes.`);
  };
}

/** A repeatable option that also takes a comma-separated list. */
function listArgument(text: string, before: readonly string[] | undefined): readonly string[] {
  const items = text.split(',').map((item) => item.trim());
  if (items.some((item) => item === '')) throw new InvalidArgumentError('It must not be empty.');
  return [...(before ?? []), ...items];
}

export function addPlatformsOption(command: Command): void {
  command.option('--platform <os/arch[/variant]>', 'only this platform; repeatable (default: all)', listArgument);
}

export function addPlatformOption(command: Command, fallback: string): void {
  command.option('--platform <os/arch[/variant]>', `the platform to look at (default: ${fallback})`);
}

export function addJobsOption(command: Command, what: string): void {
  command.option('--jobs <number>', what, integerArgument(1, 256));
}
