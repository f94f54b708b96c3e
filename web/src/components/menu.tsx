import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Button } from "./button.tsx";
import { Icon, type IconName } from "./icons.tsx";

export interface MenuItem {
  label: string;
  icon?: IconName;
  danger?: boolean;
  disabled?: boolean;
  run: () => void;
}

/** A button that opens a list of things to do. Arrows move, Escape closes. */
export function Menu({ label, text, icon = "more", items, small }: { label: string; text?: string; icon?: IconName; items: MenuItem[]; small?: boolean }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (!open) return undefined;
    focusItem(box.current, 0);
    const outside = (event: Event) => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);

  function close(): void {
    setOpen(false);
    button.current?.focus();
  }

  function onKeyDown(event: KeyboardEvent): void {
    if (!open) return;
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") focusItem(box.current, 1, true);
    else if (event.key === "ArrowUp") focusItem(box.current, -1, true);
    else if (event.key === "Tab") setOpen(false);
    else return;
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  }

  return (
    <div class="menu" ref={box} onKeyDown={onKeyDown}>
      <Button
        buttonRef={button}
        kind={text === undefined ? "quiet" : "plain"}
        small={small}
        icon={icon}
        label={text === undefined ? label : undefined}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
      >
        {text}
      </Button>
      {open && (
        <div class="menu-list" id={id} role="menu" aria-label={label}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              class={item.danger ? "danger" : undefined}
              disabled={item.disabled}
              onClick={() => {
                close();
                item.run();
              }}
            >
              {item.icon && <Icon name={item.icon} />}
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

function focusItem(box: HTMLElement | null, step: number, from = false): void {
  const items = [...(box?.querySelectorAll<HTMLButtonElement>('[role="menuitem"]:not(:disabled)') ?? [])];
  const current = from ? items.indexOf(document.activeElement as HTMLButtonElement) : 0;
  items.at((current + step + items.length) % items.length)?.focus();
}
