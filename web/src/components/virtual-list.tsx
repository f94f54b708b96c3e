import type { ComponentChildren, VNode } from "preact";
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
  /** Called when the end is near, so that more is there before it is reached. */
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
const AHEAD = 30;
/** Rows between two renderings while it is scrolled; less than what is drawn beyond its edges. */
const STEP = 4;

/** A table of any length: only rows in sight are in the document. It scrolls in its own box. */
export function VirtualList<T>({ label, items, rowHeight, itemKey, row, head, onEnd, foot, total, boxRef, onTop }: VirtualListProps<T>) {
  const own = useRef<HTMLDivElement>(null);
  const box = boxRef ?? own;
  // In steps of a few rows, so that not every pixel is a rendering; 0 is the very top only.
  const [view, setView] = useState({ top: 0, height: 600 });
  const { start, end, before, after } = windowOf(view.top, view.height, rowHeight, items.length);
  const anchor = useRef<{ key: string | number; index: number } | null>(null);

  function look(): void {
    const element = box.current;
    if (element === null) return;
    const { scrollTop, clientHeight } = element;
    const index = Math.floor(scrollTop / rowHeight);
    const item = items[index];
    anchor.current = item === undefined ? null : { key: itemKey(item), index };
    const top = scrollTop < rowHeight / 2 ? 0 : Math.max(1, Math.floor(index / STEP) * STEP * rowHeight);
    setView((old) => (old.top === top && old.height === clientHeight ? old : { top, height: clientHeight }));
  }
  const looking = useRef(look);
  looking.current = look;

  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => looking.current());
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  // Rows that come or go above what is read must not move it; at the top, new rows are what is read.
  useLayoutEffect(() => {
    const held = anchor.current;
    const element = box.current!;
    if (held !== null && element.scrollTop >= rowHeight / 2) {
      const index = near(items, held.index, (item) => itemKey(item) === held.key);
      if (index !== null && index !== held.index) element.scrollTop += (index - held.index) * rowHeight;
    }
    look();
  }, [items, rowHeight]);

  const atTop = view.top === 0;
  useEffect(() => onTop?.(atTop), [atTop, onTop]);

  const atEnd = end >= items.length - AHEAD;
  useEffect(() => {
    if (atEnd) onEnd?.();
  }, [atEnd, items.length, onEnd]);

  // A row that is the same as before is handed over as the same: nothing of it is compared.
  const kept = useRef<Map<string | number, Kept<T>> | null>(null);
  kept.current ??= new Map();
  const drawn = draw(kept.current, items, start, end, itemKey, row, rowHeight);

  return (
    <div class="vlist" ref={box} onScroll={look} tabIndex={0} role="region" aria-label={label}>
      <div role="table" aria-label={label} aria-rowcount={total ?? -1} class="vlist-table">
        {head && (
          <div class="vlist-head" role="rowgroup">
            {head}
          </div>
        )}
        <div role="rowgroup" style={{ paddingTop: `${before}px`, paddingBottom: `${after}px` }}>
          {drawn}
        </div>
      </div>
      {foot && <div class="vlist-foot">{foot}</div>}
    </div>
  );
}

/**
 * The rows from *start* to *end*; *kept* holds those of the rendering before and is brought up to date.
 * It is one map for good: one that led to the map before it would lead to all there ever were.
 */
function draw<T>(
  kept: Map<string | number, Kept<T>>,
  items: readonly T[],
  start: number,
  end: number,
  itemKey: (item: T) => string | number,
  row: (item: T, index: number) => ComponentChildren,
  rowHeight: number,
): VNode[] {
  const keys = new Set<string | number>();
  const drawn = items.slice(start, end).map((item, offset) => {
    const index = start + offset;
    const key = itemKey(item);
    keys.add(key);
    const old = kept.get(key);
    if (old !== undefined && old.item === item && old.index === index && old.row === row && old.rowHeight === rowHeight) return old.node;
    const node = (
      <div key={key} class="vlist-row" style={{ height: `${rowHeight}px` }} role="presentation">
        {row(item, index)}
      </div>
    );
    kept.set(key, { item, index, row, rowHeight, node });
    return node;
  });
  for (const key of kept.keys()) if (!keys.has(key)) kept.delete(key);
  return drawn;
}

interface Kept<T> {
  item: T;
  index: number;
  row: (item: T, index: number) => ComponentChildren;
  rowHeight: number;
  node: VNode;
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
