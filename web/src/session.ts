// Who is signed in, and what that allows.

import { signal } from "@preact/signals";
import type { Role, Session } from "./types.ts";

/** Undefined: not asked yet. Null: a sign-in is needed. */
export const session = signal<Session | null | undefined>(undefined);

const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

/** Whether the role is enough. Buttons that it does not allow do not exist. */
export function can(role: Role): boolean {
  const held = session.value;
  return held !== undefined && held !== null && RANK[held.role] >= RANK[role];
}

export function signedOut(): void {
  session.value = null;
}
