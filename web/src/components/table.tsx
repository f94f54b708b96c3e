import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface Column<T> {
  head: ComponentChildren;
  /** What stands beside the value on a phone, where rows are cards. Default: head. "" for none. */
  label?: string;
  cell: (row: T) => ComponentChildren;
  /** Numbers: at the end, so that their digits stand below each other. */
  end?: boolean;
  /** It names the row. */
  header?: boolean;
  class?: string;
}

interface TableProps<T> {
  /** Read by screen readers. */
  caption: string;
  columns: Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string | number;
  rowClass?: (row: T) => string | undefined;
  /** "cards": on a phone each row becomes a card. "tiles": one in which values stand beside
   * each other, for rows of many numbers. "scroll": it scrolls inside its box. */
  narrow?: "cards" | "tiles" | "scroll";
  /** Columns of equal width, the first twice as wide: for like tables below each other. */
  even?: boolean;
}

/** Up to a few hundred rows; longer lists are for VirtualList. */
export function Table<T>({ caption, columns, rows, rowKey, rowClass, narrow = "cards", even }: TableProps<T>) {
  const [box, scrolls] = useScrolls();
  return (
    <div class="table-box" ref={box} {...(scrolls ? { tabIndex: 0, role: "region", "aria-label": `${caption}, scrolls sideways` } : {})}>
      <table class={`table table-${narrow}${even ? " table-even" : ""}`}>
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <th key={index} scope="col" class={classOf(column)}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)} class={rowClass?.(row)}>
              {columns.map((column, index) => {
                const label = column.label ?? (typeof column.head === "string" ? column.head : "");
                return column.header ? (
                  <th key={index} scope="row" class={classOf(column)} data-label={label}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={index} class={classOf(column)} data-label={label}>
                    {column.cell(row)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classOf(column: { end?: boolean; class?: string }): string | undefined {
  return [column.end ? "end" : "", column.class ?? ""].filter(Boolean).join(" ") || undefined;
}

/** Whether the box is narrower than what is in it. Only then the keyboard has to reach it. */
function useScrolls() {
  const ref = useRef<HTMLDivElement>(null);
  const [scrolls, setScrolls] = useState(false);
  useEffect(() => {
    const box = ref.current!;
    const observer = new ResizeObserver(() => setScrolls(box.scrollWidth > box.clientWidth));
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
    return () => observer.disconnect();
  }, []);
  return [ref, scrolls] as const;
}
