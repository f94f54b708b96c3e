// Whether times are shown as date and time instead of "3 min ago": a title is out of reach for the
// keyboard and for fingers.

import { signal } from "@preact/signals";
import { recall, remember } from "./memory.ts";

const KEY = "durably.times";

export const exactTimes = signal(recall(KEY) === "exact");

export function toggleTimes(): void {
  exactTimes.value = !exactTimes.value;
  remember(KEY, exactTimes.value ? "exact" : "relative");
}
