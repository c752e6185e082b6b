/** What a token allows: `repository:library/alpine:pull,push` (distribution token scope grammar). */
export type Scope = string;

export type Action = 'pull' | 'push' | 'delete';

export function repositoryScope(path: string, ...actions: readonly Action[]): Scope {
  return `repository:${path}:${[...actions].sort().join(',')}`;
}

/** Merges scopes of the same resource; `*` swallows the other actions. The order of first mention is kept. */
export function mergeScopes(...lists: readonly (readonly Scope[])[]): Scope[] {
  const merged = new Map<string, Set<string>>();
  for (const scope of lists.flat()) {
    // The name in the middle may hold colons (a port), type and actions do not.
    const cut = scope.lastIndexOf(':');
    if (cut <= 0) continue;
    const resource = scope.slice(0, cut);
    const actions = merged.get(resource) ?? new Set();
    for (const action of scope.slice(cut + 1).split(',')) if (action !== '') actions.add(action);
    merged.set(resource, actions);
  }
  return [...merged].map(([resource, actions]) => `${resource}:${actions.has('*') ? '*' : [...actions].sort().join(',')}`);
}

/** Scopes of a challenge: separated by spaces. */
export function splitScopes(text: string | undefined): Scope[] {
  return (text ?? '').split(/\s+/).filter((scope) => scope !== '').slice(0, 32);
}
