import { isUtf8Name } from '../../core/bytes.ts';
import { formatListLine } from '../../layer/list-line.ts';
import { replaceFile } from '../data/folder.ts';
import type { ContentPlace, MountContent } from '../data/types.ts';
import type { AnswerMiss, Miss, ServedDevice } from '../types.ts';

/** Between two parts of a file: what is less is not worth a part of its own, and is what the kernel reads along. Bytes. */
const GAP = 32 << 10;

/**
 * Notes what is read of a mount, and makes a prefetch list of it: files in the order in which they were read first, each with
 * the parts of it that were. For this the kernel must not read ahead, and nothing may be answered without asking here.
 */
export class Recorder {
  /** In order, each page once. */
  readonly #misses: Miss[] = [];
  readonly #met = new Set<string>();

  /** The devices as the thread that serves the mount is to see them: nothing is here, so that it asks for everything. */
  devices(devices: readonly ServedDevice[]): readonly ServedDevice[] {
    return devices.map(({ size, fd, present }) => ({ size, fd, present: new SharedArrayBuffer(present.byteLength) }));
  }

  watch(answer: AnswerMiss): AnswerMiss {
    return (miss, signal) => {
      const key = `${miss.device} ${miss.address} ${miss.length}`;
      if (!this.#met.has(key)) this.#misses.push(miss);
      this.#met.add(key);
      return answer(miss, signal);
    };
  }

  /** The list, for `prefetch-list` options. Names with line breaks, or not in UTF-8, cannot be in one. */
  async list({ locate }: Pick<MountContent, 'locate'>): Promise<readonly string[]> {
    const files = new Map<string, [number, number][]>();
    for (const { device, address, length } of this.#misses) {
      const { path, offset = 0 }: ContentPlace = await locate(device, address);
      if (path === undefined || !isUtf8Name(path) || /[\r\n]/.test(path)) continue;
      const parts = files.get(path) ?? [];
      parts.push([offset, offset + length - 1]);
      files.set(path, parts);
    }
    return [...files].map(([pattern, parts]) => formatListLine({ pattern, parts: merged(parts) }));
  }

  /** Writes the list to a file, in place of what is there. IO when that is not possible. */
  async write(path: string, image: string, content: Pick<MountContent, 'locate'>): Promise<void> {
    const lines = await this.list({ locate: (device, address) => content.locate(device, address) });
    await replaceFile(path, Buffer.from([`# What was read of ${image}, in this order: for prefetch lists`, ...lines, ''].join('\n')), 'no');
  }
}

/** Ascending; neighbours are one. */
function merged(parts: readonly [number, number][]): [number, number][] {
  const all: [number, number][] = [];
  for (const [from, to] of parts.toSorted(([one], [other]) => one - other)) {
    const last = all.at(-1);
    if (last && from <= last[1] + GAP) last[1] = Math.max(last[1], to);
    else all.push([from, to]);
  }
  return all;
}
