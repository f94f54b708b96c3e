// Light, dark, or as the system says; kept in this browser.

import { effect, signal } from "@preact/signals";
import { recall, remember } from "./memory.ts";

export type Theme = "auto" | "light" | "dark";

const KEY = "durably.theme";

export const theme = signal<Theme>(stored());
/** Counts changes of what is drawn in: charts, whose colours are not CSS, draw again. */
export const palette = signal(0);

effect(() => {
  const chosen = theme.value;
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  palette.value = palette.peek() + 1;
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette.value += 1;
});

export function choose(chosen: Theme): void {
  theme.value = chosen;
  remember(KEY, chosen);
}

function stored(): Theme {
  const value = recall(KEY);
  return value === "light" || value === "dark" ? value : "auto";
}
