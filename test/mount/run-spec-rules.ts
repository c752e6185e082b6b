import assert from 'node:assert/strict';

/** Rules of the OCI runtime specification 1.0 (config.md, config-linux.md) for what a bundle says, as far as they can be checked without running it. */

const NAMESPACES = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup'];
const PROPAGATION = ['shared', 'rshared', 'slave', 'rslave', 'private', 'rprivate', 'unbindable', 'runbindable'];
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  '': ['ociVersion', 'root', 'mounts', 'process', 'hostname', 'hooks', 'annotations', 'linux'],
  process: ['terminal', 'consoleSize', 'cwd', 'env', 'args', 'rlimits', 'apparmorProfile', 'capabilities', 'noNewPrivileges', 'oomScoreAdj', 'selinuxLabel', 'user'],
  'process.user': ['uid', 'gid', 'umask', 'additionalGids'],
  root: ['path', 'readonly'],
  linux: ['namespaces', 'uidMappings', 'gidMappings', 'devices', 'cgroupsPath', 'resources', 'rootfsPropagation', 'maskedPaths', 'readonlyPaths', 'mountLabel', 'seccomp', 'sysctl', 'personality', 'intelRdt'],
  'linux.seccomp': ['defaultAction', 'architectures', 'flags', 'syscalls'],
};

type Json = { readonly [name: string]: unknown };

export function checkSpec(document: unknown): void {
  const at = (path: string): unknown => path.split('.').filter((name) => name !== '').reduce<unknown>((value, name) => (value as Json | undefined)?.[name], document);
  for (const [path, known] of Object.entries(FIELDS)) {
    const unknown = Object.keys((at(path) ?? {}) as Json).filter((name) => !known.includes(name));
    assert.deepEqual(unknown, [], `fields of ${path || 'the document'} that the specification does not have`);
  }
  assert.match(String(at('ociVersion')), /^1\.\d+\.\d+$/);
  assert.match(String(at('process.cwd')), /^\/(?!.*\/$)|^\/$/, 'cwd is absolute');
  const args = texts(at('process.args'));
  assert.ok(args.length > 0 && args.every((arg) => !arg.includes('\0')));
  for (const entry of texts(at('process.env'))) assert.match(entry, /^[^=\0]+=[^\0]*$/);
  for (const id of ['uid', 'gid']) assert.ok(Number.isInteger(at(`process.user.${id}`)));
  for (const set of ['bounding', 'effective', 'permitted', 'inheritable', 'ambient']) {
    const names = texts(at(`process.capabilities.${set}`));
    assert.ok(names.every((name) => /^CAP_[A-Z_]+$/.test(name)) && new Set(names).size === names.length, set);
  }
  const bounding = texts(at('process.capabilities.bounding'));
  for (const set of ['effective', 'permitted']) assert.ok(texts(at(`process.capabilities.${set}`)).every((name) => bounding.includes(name)));
  const limits = at('process.rlimits') as readonly { type: string; soft: number; hard: number }[];
  assert.equal(new Set(limits.map(({ type }) => type)).size, limits.length, 'a limit twice is an error');
  for (const { type, soft, hard } of limits) assert.ok(/^RLIMIT_[A-Z]+$/.test(type) && Number.isInteger(soft) && Number.isInteger(hard) && soft <= hard);
  assert.ok(String(at('root.path')).length > 0);
  for (const mount of at('mounts') as readonly Json[]) {
    assert.ok(String(mount['destination']).startsWith('/'), 'destinations are absolute');
    const options = texts(mount['options']);
    assert.equal(options.some((option) => option === 'bind' || option === 'rbind'), mount['type'] === 'bind' || mount['type'] === 'none');
    if (mount['type'] === 'bind') assert.ok(String(mount['source']).startsWith('/'));
  }
  for (const [name, value] of Object.entries(at('annotations') as Json)) assert.ok(name !== '' && typeof value === 'string');
  const namespaces = (at('linux.namespaces') as readonly { type: string }[]).map(({ type }) => type);
  assert.ok(namespaces.every((type) => NAMESPACES.includes(type)) && new Set(namespaces).size === namespaces.length, 'a namespace twice is an error');
  assert.ok(PROPAGATION.includes(String(at('linux.rootfsPropagation'))));
  for (const list of ['maskedPaths', 'readonlyPaths']) assert.ok(texts(at(`linux.${list}`)).every((path) => path.startsWith('/')));
  if (at('hostname') !== undefined) assert.ok(namespaces.includes('uts'), 'a host name needs a namespace for it');
  checkSeccomp(at('linux.seccomp') as Json | undefined);
}

function checkSeccomp(seccomp: Json | undefined): void {
  if (!seccomp) return;
  const action = /^SCMP_ACT_(?:KILL|KILL_PROCESS|KILL_THREAD|TRAP|ERRNO|TRACE|ALLOW|LOG|NOTIFY)$/;
  assert.match(String(seccomp['defaultAction']), action);
  for (const name of texts(seccomp['architectures'] ?? [])) assert.match(name, /^SCMP_ARCH_[A-Z0-9_]+$/);
  for (const rule of seccomp['syscalls'] as readonly Json[]) {
    assert.ok(texts(rule['names']).length > 0);
    assert.match(String(rule['action']), action);
    for (const arg of (rule['args'] ?? []) as readonly Json[]) {
      assert.ok(Number(arg['index']) >= 0 && Number(arg['index']) <= 5);
      assert.match(String(arg['op']), /^SCMP_CMP_(?:NE|LT|LE|EQ|GE|GT|MASKED_EQ)$/);
    }
  }
}

function texts(value: unknown): readonly string[] {
  assert.ok(Array.isArray(value) && value.every((item) => typeof item === 'string'));
  return value as string[];
}
