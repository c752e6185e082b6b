/**
 * Runs `work` over all items, at most `limit` at a time, and returns the results in order. The first failure aborts the
 * others through `stop` and is thrown once all of them have ended: nothing goes on in the background.
 */
export async function mapLimited<T, R>(items: readonly T[], limit: number, work: (item: T) => Promise<R>, stop: AbortController): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let failure: { error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    while (next < items.length && !failure) {
      const at = next++;
      try {
        results[at] = await work(items[at] as T);
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  if (failure) throw failure.error;
  return results;
}
