/** Numbers of one piece. */
const PIECE = 1 << 16;

/**
 * A growing list of unsigned 32-bit numbers: 4 bytes each, where an array of a million small objects would take hundreds of
 * megabytes. A large one grows piece by piece: nothing is copied, and nothing stands empty.
 */
export class NumberList {
  readonly #pieces: Uint32Array[] = [new Uint32Array(64)];
  #capacity = 64;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#capacity) this.#grow();
    (this.#pieces[this.#length >>> 16] as Uint32Array)[this.#length & (PIECE - 1)] = value;
    this.#length += 1;
  }

  at(index: number): number {
    return (this.#pieces[index >>> 16] as Uint32Array)[index & (PIECE - 1)] as number;
  }

  #grow(): void {
    if (this.#capacity < PIECE) {
      const more = new Uint32Array(this.#capacity * 4);
      more.set(this.#pieces[0] as Uint32Array);
      this.#pieces[0] = more;
      this.#capacity = more.length;
    } else {
      this.#pieces.push(new Uint32Array(PIECE));
      this.#capacity += PIECE;
    }
  }
}
