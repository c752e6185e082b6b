import { printable } from '../core/errors.ts';
import type { ListedMount } from '../mount/host/list.ts';
import { formatTable } from './table.ts';
import { formatSeconds, formatSize } from './units.ts';

/** How a mount is doing, in one word. */
function conditionOf({ state, health, status }: ListedMount): string {
  if (health === 'dead') return 'dead';
  if (state.phase !== 'ready') return state.phase;
  if (!status) return 'not answering';
  return status.ahead === 'filling' || status.ahead === 'prefetching' ? status.ahead : 'ready';
}

/** The table of `ps`. */
export function mountTable(mounts: readonly ListedMount[]): string {
  const rows = mounts.map((mount) => {
    const { state, status } = mount;
    return [
      printable(state.dir),
      printable(state.image),
      state.writable ? `${state.backend}+rw` : state.backend,
      conditionOf(mount),
      state.phase === 'detached' ? '100%' : status ? percent(status.localBytes, status.bytes, status.complete) : '-',
      status ? formatSize(status.fetchedBytes) : '-',
      status ? `${status.errors}` : '-',
      formatSeconds((Date.now() - state.mountedAt) / 1000),
      state.daemon ? `${state.daemon.pid}` : '-',
    ];
  });
  return formatTable(
    [
      { title: 'DIR' }, { title: 'IMAGE' }, { title: 'BACKEND' }, { title: 'STATE' }, { title: 'LOCAL', align: 'right' }, { title: 'FETCHED', align: 'right' },
      { title: 'ERRORS', align: 'right' }, { title: 'UP', align: 'right' }, { title: 'PID', align: 'right' },
    ],
    rows,
  );
}

/** Never 100% while a byte is missing. */
function percent(part: number, whole: number, complete: boolean): string {
  return whole === 0 ? (complete ? '100%' : '-') : `${Math.floor((part / whole) * 100)}%`;
}

/** The same for programs. */
export function mountFacts(mount: ListedMount): object {
  const { state, status } = mount;
  const { version: _version, boot: _boot, namespace: _namespace, daemon, supervisor, owner: _owner, mounts: _mounts, mountedAt, ...facts } = state;
  return {
    ...facts,
    state: conditionOf(mount),
    mountedAt: new Date(mountedAt).toISOString(),
    uptimeSeconds: Math.round((Date.now() - mountedAt) / 1000),
    pids: { daemon: daemon?.pid, supervisor: supervisor?.pid },
    ...(status
      ? {
          requests: status.requests,
          fetchedBytes: status.fetchedBytes,
          localBytes: status.localBytes,
          bytes: status.bytes,
          complete: status.complete,
          errors: status.errors,
          rss: status.rss,
          ahead: status.ahead,
          layers: status.content.layers,
          reads: { ...status.content.answers, local: status.fuse.localReads, misses: status.fuse.misses, pending: status.fuse.pending },
        }
      : {}),
  };
}
