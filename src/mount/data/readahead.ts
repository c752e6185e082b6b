/** Bytes to fetch before they are asked for. */
export interface Ahead {
  readonly from: number;
  readonly to: number;
}

/** Bytes that are fetched ahead of one reader: several requests of some MiB. */
const MAX_WINDOW = 16 << 20;
/** The same where it goes on from file to file: nobody has said yet that the next one is wanted. */
const MAX_ACROSS = 4 << 20;
/** Readers that are remembered for each device. */
const MAX_STREAMS = 8;
/** A reader may leave out this much, and no more than it has read, and still be the same. */
const SLACK = 256 << 10;
/** How often a reader goes on where it stopped until that is no accident. */
const STEPS = 2;

interface Stream {
  readonly start: number;
  /** What has been fetched for it ends here. */
  end: number;
  /** Asking for something behind this means that it goes on. */
  mark: number;
  steps: number;
}

/**
 * Whoever reads on from where he stopped is told from what he asks for. So that it is noticed when he gets to what has been
 * fetched ahead, its first page is to be asked for all the same.
 *
 * Tells from what is missing who reads a device from front to back, and how far ahead is worth fetching: at most half of what has
 * been read so far, and nothing behind the file's end unless whole files in a row are read. Random readers cost nothing.
 */
export class Readahead {
  /** The last used one comes last. */
  #streams: Stream[] = [];

  /**
   * Bytes `[address, end)` were asked for; chunks that fill them end at `loaded`. `fileEnd` gives the end of what belongs
   * to the same file as the byte in front of an address.
   */
  asked(address: number, end: number, loaded: number, fileEnd: (address: number) => number | undefined): Ahead | undefined {
    const stream = this.#find(address);
    if (!stream) {
      this.#streams.push({ start: address, end: Math.max(end, loaded), mark: Math.max(end, loaded), steps: 0 });
      if (this.#streams.length > MAX_STREAMS) this.#streams.shift();
      return undefined;
    }
    if (end <= stream.mark) return undefined;
    stream.steps += 1;
    stream.end = Math.max(stream.end, loaded, end);
    stream.mark = stream.end;
    if (stream.steps < STEPS) return undefined;
    const from = stream.end;
    const read = from - stream.start;
    const same = fileEnd(from);
    const inside = same !== undefined && same > from;
    const to = inside ? Math.min(same, from + Math.min(MAX_WINDOW, read / 2)) : from + Math.min(MAX_ACROSS, read / 3);
    if (to <= from) return undefined;
    stream.end = to;
    return { from, to };
  }

  #find(address: number): Stream | undefined {
    const at = this.#streams.findLastIndex(({ start, end }) => address >= start && address <= end + Math.min(SLACK, end - start));
    const stream = this.#streams[at];
    if (!stream) return undefined;
    this.#streams.splice(at, 1);
    this.#streams.push(stream);
    return stream;
  }
}
