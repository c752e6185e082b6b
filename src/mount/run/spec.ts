import { constants } from 'node:os';
import { KEPT_CAPABILITIES } from './capabilities.ts';
import type { Context } from './context.ts';
import type { RunConfig } from './image-config.ts';
import type { ContainerProcess } from './process.ts';
import { seccompProfile } from './seccomp.ts';
import { MASKED_PATHS, READONLY_PATHS, standardMounts, type ContainerMount } from './standard-mounts.ts';

/** Version of the runtime specification that the document is written to. */
const OCI_VERSION = '1.0.2';

/** Everything about a container that its bundle has to say. */
export interface ContainerPlan {
  readonly process: ContainerProcess;
  readonly hostname: string;
  /** The root file system cannot be written to. */
  readonly readonly: boolean;
  readonly net: 'host' | 'none';
  /** Behind the standard ones: volumes, files of our own. */
  readonly mounts: readonly ContainerMount[];
  /** Most open files, for soft and hard limit alike. */
  readonly openFiles: number;
  /** Of the terminal that it begins with. */
  readonly consoleSize?: { readonly height: number; readonly width: number };
}

export interface SpecOptions {
  readonly context: Context;
  /** The runtime can filter system calls. */
  readonly seccomp: boolean;
  /** Folder of the root file system, from the bundle. */
  readonly root: string;
  readonly config: Pick<RunConfig, 'labels' | 'os' | 'architecture' | 'variant' | 'created' | 'author' | 'stopSignal'>;
  /** Processor as Node names it; default this machine's. */
  readonly architecture?: string;
}

/** The bundle's config.json (runtime-spec 1.0, config.md). */
export function runtimeSpec(plan: ContainerPlan, options: SpecOptions): object {
  const { process: { args, env, cwd, user, terminal }, hostname } = plan;
  const { context, config } = options;
  // Capabilities follow uid 0. Whoever is somebody else has none, but may get them back through a set-user-ID program.
  const held = user.uid === 0 ? KEPT_CAPABILITIES : [];
  const namespaces = ['mount', 'pid', 'ipc', 'uts', ...(plan.net === 'none' ? ['network'] : []), ...(context.cgroup2 && !context.userNamespace ? ['cgroup'] : [])];
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal,
      ...(terminal && plan.consoleSize ? { consoleSize: plan.consoleSize } : {}),
      user: { uid: user.uid, gid: user.gid, umask: 0o022, ...(context.setGroups ? { additionalGids: user.groups } : {}) },
      args,
      env,
      cwd,
      capabilities: { bounding: KEPT_CAPABILITIES, effective: held, permitted: held, inheritable: [], ambient: [] },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: plan.openFiles, soft: plan.openFiles }],
      noNewPrivileges: false,
    },
    root: { path: options.root, readonly: plan.readonly },
    hostname,
    mounts: [...standardMounts(context, plan.mounts), ...plan.mounts],
    annotations: annotations(config),
    linux: {
      namespaces: namespaces.map((type) => ({ type })),
      ...(context.userNamespace ? {} : { resources: { devices: [{ allow: false, access: 'rwm' }] } }),
      ...(options.seccomp ? { seccomp: seccompProfile(options.architecture) } : {}),
      rootfsPropagation: 'rprivate',
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
    },
  };
}

/** Runtimes take orders from annotations with these prefixes, and labels are a stranger's. */
const ORDERS = /^(?:run\.oci\.|org\.systemd\.|module\.wasm\.|io\.(?:crun|katacontainers|youki|containerd|kubernetes|cri)\b|org\.opencontainers\.runc\.|org\.criu\.)/i;

/** image-spec 1.1 conversion.md: what the config says about the image, and its labels over that. */
function annotations(config: SpecOptions['config']): Record<string, string> {
  const said: readonly (readonly [string, string | undefined])[] = [
    ['os', config.os], ['architecture', config.architecture], ['variant', config.variant], ['author', config.author], ['created', config.created], ['stopSignal', config.stopSignal],
  ];
  const own = said.flatMap(([name, value]) => (value === undefined ? [] : [[`org.opencontainers.image.${name}`, value] as const]));
  const labels = Object.entries(config.labels).filter(([name]) => name !== '' && !ORDERS.test(name));
  return Object.fromEntries([...own, ...labels]);
}

/** Number of the signal that an image wants to be stopped by: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`; SIGTERM when it says nothing that can be understood. */
export function stopSignal(text: string | undefined): number {
  const wanted = (text ?? '').trim().toUpperCase();
  if (/^\d{1,2}$/.test(wanted) && Number(wanted) >= 1 && Number(wanted) <= 64) return Number(wanted);
  const realtime = /^(?:SIG)?RTM(IN\+|AX-)(\d{1,2})$/.exec(wanted);
  if (realtime) {
    const number = realtime[1] === 'IN+' ? 34 + Number(realtime[2]) : 64 - Number(realtime[2]);
    if (number >= 34 && number <= 64) return number;
  }
  const name = (wanted.startsWith('SIG') ? wanted : `SIG${wanted}`) as NodeJS.Signals;
  return constants.signals[name] ?? constants.signals.SIGTERM;
}
