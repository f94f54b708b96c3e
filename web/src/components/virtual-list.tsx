import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { windowOf } from "../window.ts";

interface VirtualListProps<T> {
  /** Named for screen readers. */
  label: string;
  items: readonly T[];
  /** Pixels; every row has this height. */
  rowHeight: number;
  itemKey: (item: T) => string | number;
  /** A row with role="row" and cells with role="cell" in it. */
  row: (item: T, index: number) => ComponentChildren;
  /** A row with role="row" and role="columnheader" in it; it stays in sight. */
  head?: ComponentChildren;
  /** Called when the end comes into sight. */
  onEnd?: () => void;
  /** Below the last row: "Loading", "That is all". */
  foot?: ComponentChildren;
  /** How many rows there are in all, when it is known. */
  total?: number | null;
  /** For who wants to scroll it. */
  boxRef?: { current: HTMLDivElement | null };
  /** Told when it is scrolled to its top or away from it. */
  onTop?: (atTop: boolean) => void;
}

/** How far around its old place a row is looked for. */
const ANCHOR_REACH = 2_000;

/** A table of any length: only rows in sight are in the document. It scrolls in its own box. */
export function VirtualList<T>({ label, items, rowHeight, itemKey, row, head, onEnd, foot, total, boxRef, onTop }: VirtualListProps<T>) {
  const own = useRef<HTMLDivElement>(null);
  const box = boxRef ?? own;
  const [view, setView] = useState({ top: 0, height: 600 });
  const { start, end, before, after } = windowOf(view.top, view.height, rowHeight, items.length);

  function look(): void {
    const element = box.current;
    if (element === null) return;
    // Within a row nothing changes that would have to be drawn.
    const top = Math.floor(element.scrollTop / rowHeight) * rowHeight;
    const height = element.clientHeight;
    setView((before) => (before.top === top && before.height === height ? before : { top, height }));
  }

  // Rows that come or go above what is read must not move it; at the top, new rows are what is read.
  const anchor = useRef<{ key: string | number; index: number } | null>(null);
  useLayoutEffect(() => {
    const held = anchor.current;
    const element = box.current!;
    if (held === null || element.scrollTop < rowHeight / 2) return;
    const index = near(items, held.index, (item) => itemKey(item) === held.key);
    if (index === null || index === held.index) return;
    element.scrollTop += (index - held.index) * rowHeight;
    look();
  }, [items]);
  useLayoutEffect(() => {
    const index = Math.floor(view.top / rowHeight);
    const item = items[index];
    anchor.current = item === undefined ? null : { key: itemKey(item), index };
  }, [items, view.top, rowHeight]);

  const atTop = view.top < rowHeight / 2;
  useEffect(() => onTop?.(atTop), [atTop, onTop]);

  useLayoutEffect(() => {
    look();
    const observer = new ResizeObserver(look);
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  const atEnd = end >= items.length;
  useEffect(() => {
    if (atEnd) onEnd?.();
  }, [atEnd, items.length, onEnd]);

  return (
    <div class="vlist" ref={box} onScroll={look} tabIndex={0} role="region" aria-label={label}>
      <div role="table" aria-label={label} aria-rowcount={total ?? -1} class="vlist-table">
        {head && (
          <div class="vlist-head" role="rowgroup">
            {head}
          </div>
        )}
        <div role="rowgroup" style={{ paddingTop: `${before}px`, paddingBottom: `${after}px` }}>
          {items.slice(start, end).map((item, index) => (
            <div key={itemKey(item)} class="vlist-row" style={{ height: `${rowHeight}px` }} role="presentation">
              {row(item, start + index)}
            </div>
          ))}
        </div>
      </div>
      {foot && <div class="vlist-foot">{foot}</div>}
    </div>
  );
}

/** The index of what is *wanted*, nearest to *from*; null when it is nowhere near. */
function near<T>(items: readonly T[], from: number, wanted: (item: T) => boolean): number | null {
  for (let step = 0; step < ANCHOR_REACH; step += 1) {
    for (const index of [from + step, from - step]) {
      const item = items[index];
      if (item !== undefined && wanted(item)) return index;
    }
  }
  return null;
}
