// Keyboard shortcuts of the whole page. Pure apart from the listener.

export interface Shortcuts {
  go: (key: string) => boolean;
  help: () => void;
  search: () => boolean;
  times: () => void;
}

const PAUSE_MS = 1_200;

/** What a key means after the one before it. */
export function shortcutOf(key: string, previous: string): { kind: "go"; key: string } | { kind: "help" | "search" | "times" | "prefix" } | null {
  if (previous === "g" && /^[a-z]$/.test(key) && key !== "g") return { kind: "go", key };
  if (key === "?") return { kind: "help" };
  if (key === "/") return { kind: "search" };
  if (key === "t") return { kind: "times" };
  if (key === "g") return { kind: "prefix" };
  return null;
}

export function listen(shortcuts: Shortcuts): () => void {
  let previous = "";
  let at = 0;
  function onKeyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const found = shortcutOf(event.key, event.timeStamp - at < PAUSE_MS ? previous : "");
    previous = found?.kind === "prefix" ? "g" : "";
    at = event.timeStamp;
    if (found === null) return;
    if (found.kind === "help") shortcuts.help();
    else if (found.kind === "times") shortcuts.times();
    else if (found.kind === "go" && !shortcuts.go(found.key)) return;
    else if (found.kind === "search" && !shortcuts.search()) return;
    event.preventDefault();
  }
  document.addEventListener("keydown", onKeyDown);
  return () => document.removeEventListener("keydown", onKeyDown);
}

function typing(target: EventTarget | null): boolean {
  const element = target as HTMLElement | null;
  return element?.matches?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]") ?? false;
}

/** Focus the page's search, if it has one: the input marked with data-search. */
export function focusSearch(): boolean {
  const input = document.querySelector<HTMLInputElement>("[data-search], input[type=search]");
  input?.focus();
  input?.select();
  return input !== null;
}
