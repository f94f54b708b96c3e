// The pages and where they are; the order is that of the navigation.

import type { IconName } from "./components/icons.tsx";
import { can } from "./session.ts";
import type { Role } from "./types.ts";

export interface Place {
  path: string;
  title: string;
  icon: IconName;
  /** After g. */
  key: string;
  role?: Role;
}

export const PLACES: Place[] = [
  { path: "/", title: "Overview", icon: "overview", key: "o" },
  { path: "/jobs", title: "Jobs", icon: "jobs", key: "j" },
  { path: "/queues", title: "Queues", icon: "queues", key: "q" },
  { path: "/instances", title: "Instances", icon: "instances", key: "i" },
  { path: "/webhooks", title: "Webhooks", icon: "webhooks", key: "w" },
  { path: "/audit", title: "Audit", icon: "audit", key: "a", role: "admin" },
];

/** Those that exist for who is signed in. */
export function places(): Place[] {
  return PLACES.filter((place) => place.role === undefined || can(place.role));
}

/** Whether *path* belongs to *place*: /jobs/0193 to Jobs. */
export function isAt(place: Place, path: string): boolean {
  return path === place.path || (place.path !== "/" && path.startsWith(`${place.path}/`));
}
