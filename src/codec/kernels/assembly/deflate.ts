export const MEMORY_END: usize = 65536;

export function staticEnd(): usize {
  return __heap_base;
}
