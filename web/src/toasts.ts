// Short messages at the edge of the screen.

import { signal } from "@preact/signals";

export interface Toast {
  id: number;
  kind: "done" | "error" | "info";
  text: string;
}

export const toasts = signal<Toast[]>([]);

const MOST = 4;
const SHOWN_MS = { done: 5_000, info: 5_000, error: 12_000 };
let last = 0;

export function toast(kind: Toast["kind"], text: string): void {
  last += 1;
  const id = last;
  toasts.value = [...toasts.value, { id, kind, text }].slice(-MOST);
  setTimeout(() => dismiss(id), SHOWN_MS[kind]);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}
