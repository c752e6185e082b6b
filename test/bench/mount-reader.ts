import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/**
 * A process that reads one file, so that the start of a process is not what is measured: `seq FILE` from front to back, `random
 * FILE COUNT` pages of 4 KiB all over it, the same ones each time. Prints seconds, those of the first half, and bytes.
 */
const [how = '', path = '', count = '0'] = process.argv.slice(2);
const PAGE = 4096;
const PIECE = 1 << 20;

const fd = openSync(path, 'r');
const { size } = fstatSync(fd);
const buffer = Buffer.alloc(PIECE);
const started = performance.now();
let bytes = 0;
let firstHalf = 0;
if (how === 'seq') {
  for (let got = readSync(fd, buffer, 0, PIECE, null); got > 0; got = readSync(fd, buffer, 0, PIECE, null)) {
    bytes += got;
    if (firstHalf === 0 && bytes >= size / 2) firstHalf = (performance.now() - started) / 1000;
  }
} else {
  const pages = Math.floor(size / PAGE);
  // A linear congruential generator: any would do, as long as it jumps.
  for (let left = Number(count), state = 1; left > 0; left -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes += readSync(fd, buffer, 0, PAGE, Math.floor((state / 2 ** 32) * pages) * PAGE);
  }
}
const seconds = (performance.now() - started) / 1000;
closeSync(fd);
process.stdout.write(JSON.stringify({ seconds, firstHalf, bytes }));
