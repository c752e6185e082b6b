/** A growing list of unsigned 32-bit numbers: 4 bytes each, where an array of a million small objects would take hundreds of megabytes. */
export class NumberList {
  #items: Uint32Array;
  #length = 0;

  constructor(capacity = 1024) {
    this.#items = new Uint32Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#items.length) {
      const more = new Uint32Array(this.#length * 2);
      more.set(this.#items);
      this.#items = more;
    }
    this.#items[this.#length++] = value;
  }

  at(index: number): number {
    return this.#items[index] as number;
  }

  increase(index: number): void {
    this.#items[index] = (this.#items[index] as number) + 1;
  }

  set(index: number, value: number): void {
    this.#items[index] = value;
  }
}
