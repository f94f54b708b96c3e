// The server's time, by whatever the browser's clock says, ticking once a second while it is looked at.

import { signal } from "@preact/signals";

let offset = 0;

/** Milliseconds of the server's clock; changes every second. */
export const now = signal(Date.now());

export function noteServerTime(at: string): void {
  const said = Date.parse(at);
  // Small differences are the network's; a jump for each message would make the times flicker.
  if (!Number.isNaN(said) && Math.abs(said - Date.now() - offset) > 2_000) {
    offset = said - Date.now();
    now.value = serverNow();
  }
}

export function serverNow(): number {
  return Date.now() + offset;
}

setInterval(() => {
  if (!document.hidden) now.value = serverNow();
}, 1_000);
