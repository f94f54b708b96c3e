// A list that is newest first, held as the pages that were loaded so far. Pure.

interface Page<T> {
  items: readonly T[];
  /** Whether there is more behind the last item. */
  more: boolean;
}

/** What is held after the newest page has come anew. */
export function withNewest<T extends { id: number }>(held: Page<T>, newest: Page<T>): Page<T> {
  const last = newest.items.at(-1);
  const top = held.items[0];
  // So many are new that some between them and what is held have never been seen: start afresh.
  if (last === undefined || top === undefined || (newest.more && last.id > top.id)) return newest;
  const older = held.items.filter((item) => item.id < last.id);
  return { items: [...newest.items, ...older], more: older.length > 0 ? held.more : newest.more };
}

/** What is held after the page behind it has been loaded. */
export function withOlder<T extends { id: number }>(held: Page<T>, older: Page<T>): Page<T> {
  const last = held.items.at(-1);
  const fresh = last === undefined ? older.items : older.items.filter((item) => item.id < last.id);
  return { items: [...held.items, ...fresh], more: older.more };
}
