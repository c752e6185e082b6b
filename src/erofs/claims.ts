import { corrupt } from '../core/errors.ts';
import { SLOT_SIZE } from './layout.ts';

/** Bits per piece of the map: 1 MiB of image. */
const PIECE = 1 << 15;

/**
 * Which parts of an image's metadata belong to something already. Without this a small image could have many directories
 * share their entries, and so stand for any number of names.
 */
export class Claims {
  readonly #pieces = new Map<number, Uint8Array>();

  /** Takes bytes for one owner, in units of 32. CORRUPT when another one has them. */
  take(offset: number, length: number, what: string): void {
    const end = Math.ceil((offset + length) / SLOT_SIZE);
    for (let unit = Math.floor(offset / SLOT_SIZE); unit < end; unit += 1) {
      const number = Math.floor(unit / PIECE);
      let piece = this.#pieces.get(number);
      if (!piece) this.#pieces.set(number, (piece = new Uint8Array(PIECE / 8)));
      const bit = unit - number * PIECE;
      const mask = 1 << (bit & 7);
      if (((piece[bit >> 3] as number) & mask) !== 0) throw corrupt(`${what} lies where something else is`, { offset: unit * SLOT_SIZE });
      piece[bit >> 3] = (piece[bit >> 3] as number) | mask;
    }
  }
}
