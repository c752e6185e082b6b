import { readTree } from '../support/peers-trees.ts';

/** Reads a tree and prints it: a process of its own, so that a mount that does not answer costs no more than its time limit. */
const [folder = '', since = '0'] = process.argv.slice(2);
const tree = await readTree(folder, Number(since));
process.stdout.write(JSON.stringify([...tree]));
