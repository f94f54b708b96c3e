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
}

/** A table of any length: only rows in sight are in the document. It scrolls in its own box. */
export function VirtualList<T>({ label, items, rowHeight, itemKey, row, head, onEnd, foot, total }: VirtualListProps<T>) {
  const box = useRef<HTMLDivElement>(null);
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
