import type { Command } from 'commander';
import type { FormatEntry } from '../core/format-entry.ts';
import type { Format } from '../core/format.ts';
import type { Io } from './io.ts';
import { Output, type OutputFlags } from './output.ts';

/** What `main` was given, and what the command leaves behind. */
export interface App {
  readonly io: Io;
  readonly formats: readonly FormatEntry[];
  /** Set by a command whose work is done but whose answer is no, such as `verify`. */
  exitCode: number;
  /** What a failure of the command exits with, in place of the code for its class. */
  failureCode?: number;
}

/** Adds one command to the tree. Everything heavy is imported inside its action. */
export type AddCommand = (program: Command, app: App) => void;

/** How the command that is running prints, by the flags it was given. */
export function outputOf(app: App, command: Command): Output {
  return new Output(app.io, command.optsWithGlobals<OutputFlags>());
}

/** Every format that can be read. */
export function loadFormats(app: App): Promise<readonly Format[]> {
  return Promise.all(app.formats.filter(({ reads }) => reads !== false).map((entry) => entry.load()));
}
