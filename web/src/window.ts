// Which rows of a long list are to be drawn. Pure.

export interface Window {
  /** The first and the one after the last. */
  start: number;
  end: number;
  /** Pixels of the rows above and below that are not drawn. */
  before: number;
  after: number;
}

export function windowOf(
  scrollTop: number,
  height: number,
  rowHeight: number,
  rows: number,
  overscan = 8,
): Window {
  const first = Math.floor(Math.max(0, scrollTop) / rowHeight);
  const shown = Math.ceil(height / rowHeight) + 1;
  const end = Math.min(rows, first + shown + overscan);
  const start = Math.max(0, Math.min(first - overscan, end));
  return { start, end, before: start * rowHeight, after: (rows - end) * rowHeight };
}
