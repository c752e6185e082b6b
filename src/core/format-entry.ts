import type { Binding, Format } from './format.ts';

/** One option of a format, described so that a command line can offer it without loading the format. */
export interface FormatOption {
  /** The key in the format's options object. */
  readonly key: string;
  /** The command line's flag, without dashes: `chunk-size`. */
  readonly flag: string;
  /**
   * `patterns` is a list of globs; the command line reads it from a file, one per line. `image` is a `StoredImage`, which
   * the command line gets by its reference.
   */
  readonly kind: 'size' | 'integer' | 'switch' | 'patterns' | 'choice' | 'image';
  /** What a `choice` can be. */
  readonly choices?: readonly string[];
  readonly help: string;
  /** It changes layers, and so has no meaning where the image is to stay as it is. */
  readonly repacks?: boolean;
  /** Smallest and largest value that `size` and `integer` take. */
  readonly min?: number;
  readonly max?: number;
}

/** What a list of formats says about each of them. Cheap: the format's code is loaded on use. */
export interface FormatEntry {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly FormatOption[];
  /** Suffixes of tags under which it keeps something beside an image's own tag. */
  readonly companions?: readonly string[];
  /** How its artifacts are tied to images. */
  readonly binding?: Binding;
  /** It makes new layers; formats that do not can be written together with one that does. */
  readonly rewrites: boolean;
  /** It is only written about an image that is there, and not together with one that is being made. */
  readonly indexOnly?: boolean;
  /** False for one that is only written: no image is looked at for it. */
  readonly reads?: boolean;
  /** The format, whose `convert` takes an object of the options above; keys left out mean the format's defaults. */
  load(): Promise<Format>;
}
