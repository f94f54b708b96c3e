// The rows of a list out of its live first page and of the pages loaded below it. Pure.

export interface Ordered {
  id: string;
  createdAt: string;
}

export interface Merged<T> {
  rows: T[];
  /** Rows of the first page that were not there before. */
  added: number;
  /** So much has come that jobs between the first page and the rest are not known: rows are as before. */
  gap: boolean;
}

/** Whether *a* stands above *b*: newest first, ids (which sort by time) decide within a millisecond. */
export function isAbove(a: Ordered, b: Ordered): boolean {
  const difference = Date.parse(a.createdAt) - Date.parse(b.createdAt);
  return difference === 0 ? a.id > b.id : difference > 0;
}

/**
 * Replace the top of *rows* by *head*. What stood within the reach of the head and is not in it has
 * gone, or no longer matches. Only the top is looked at, so that 100,000 rows cost nothing.
 *
 * @param complete whether the head is all there is.
 */
export function merge<T extends Ordered>(rows: readonly T[], head: readonly T[], complete: boolean): Merged<T> {
  const last = head.at(-1);
  const first = rows[0];
  if (complete || last === undefined) return { rows: [...head], added: newIn(head, rows), gap: false };
  if (first !== undefined && isAbove(last, first)) return { rows: [...rows], added: head.length, gap: true };
  const known = new Set(head.map((row) => row.id));
  let cut = 0;
  while (cut < rows.length && (known.has(rows[cut]!.id) || isAbove(rows[cut]!, last))) cut += 1;
  return { rows: [...head, ...rows.slice(cut)], added: newIn(head, rows.slice(0, cut)), gap: false };
}

function newIn(head: readonly Ordered[], before: readonly Ordered[]): number {
  const known = new Set(before.slice(0, head.length * 2 + 100).map((row) => row.id));
  return head.filter((row) => !known.has(row.id)).length;
}

/** *rows* and the page below them; a row that was shown already stays where it is. */
export function append<T extends { id: string }>(rows: readonly T[], page: readonly T[]): T[] {
  const known = new Set(rows.slice(-2 * page.length - 100).map((row) => row.id));
  return [...rows, ...page.filter((row) => !known.has(row.id))];
}
