// Which jobs are looked at: from the address, to the server, and in words. Pure.

import { plural } from "../format.ts";
import { encodeQuery, type Query } from "../route.ts";
import type { BulkAction, DepthRow, JobFilter, Status } from "../types.ts";

export const STATUSES: Status[] = ["pending", "processing", "completed", "failed", "cancelled"];

const KEYS = ["status", "type", "queue", "tag", "text", "since", "until"] as const;

/** What the address says, without keys that are none of a filter's. */
export function filterOf(query: Record<string, string>): JobFilter {
  const filter: JobFilter = {};
  for (const key of KEYS) if (query[key]) filter[key] = query[key];
  return filter;
}

/** The topic of the live connection that has the first page. */
export function topicOf(filter: JobFilter): string {
  const query = encodeQuery(filter as Query);
  return query === "" ? "jobs" : `jobs?${query}`;
}

/** The path of the page after *after*. */
export function searchPath(filter: JobFilter, after: string, limit: number): string {
  return `/api/jobs/search?${encodeQuery({ ...filter, after, limit })}`;
}

export function isEmpty(filter: JobFilter): boolean {
  return KEYS.every((key) => !filter[key]);
}

/** How many parts beside the status narrow it. */
export function narrowings(filter: JobFilter): number {
  return KEYS.filter((key) => key !== "status" && filter[key]).length;
}

/** Each part as "what" and "value"; times are shown by *at*. */
export function spelled(filter: JobFilter, at: (time: string) => string): [string, string][] {
  const parts: [string, string][] = [];
  if (filter.status) parts.push(["Status", filter.status]);
  if (filter.type) parts.push(["Type", filter.type]);
  if (filter.queue) parts.push(["Queue", filter.queue]);
  if (filter.tag) parts.push(["Tag", filter.tag]);
  if (filter.text) parts.push(["Contains", filter.text]);
  if (filter.since) parts.push(["Added from", at(filter.since)]);
  if (filter.until) parts.push(["Added before", at(filter.until)]);
  return parts;
}

const ACTS_ON: Record<BulkAction, string[]> = {
  retry: ["failed", "cancelled", "completed"],
  cancel: ["pending", "processing"],
  delete: ["completed", "failed", "cancelled"],
};

/** What can be done to all jobs of a filter; without a status the server says which it takes. */
export function actionsFor(status: string | undefined): BulkAction[] {
  const all: BulkAction[] = ["retry", "cancel", "delete"];
  return status ? all.filter((action) => ACTS_ON[action].includes(status)) : all;
}

const MINUTE = 60_000;

/** A moment *seconds* before *now*, at a full minute: the same choice soon after is the same view. */
export function sinceAgo(now: number, seconds: number): string {
  return new Date(Math.floor((now - seconds * 1000) / MINUTE) * MINUTE).toISOString();
}

/** The value of a datetime-local input for a time, in local time; "" for none. */
export function toLocal(time: string | undefined): string {
  const at = new Date(time ?? "");
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

/** The time of a datetime-local input, or undefined. */
export function fromLocal(value: string): string | undefined {
  const at = new Date(value);
  return value === "" || Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

/** Jobs by status from the maintained counts of queues and types; null with what these do not tell apart. */
export function countsOf(filter: JobFilter, depth: readonly DepthRow[] | null): Record<Status | "all", number> | null {
  if (depth === null || filter.tag || filter.text || filter.since || filter.until) return null;
  const counts = { all: 0, pending: 0, processing: 0, completed: 0, failed: 0, cancelled: 0 };
  for (const row of depth) {
    if ((filter.type && row.type !== filter.type) || (filter.queue && row.queue !== filter.queue)) continue;
    counts.pending += row.scheduled + row.ready;
    for (const status of STATUSES) if (status !== "pending") counts[status] += row[status];
  }
  counts.all = STATUSES.reduce((sum, status) => sum + counts[status], 0);
  return counts;
}

/** "12,340 jobs", or how far a search without counts has come. */
export function found(total: number | null, rows: number, more: boolean): string {
  if (total !== null) return plural(total, "job");
  if (!more) return plural(rows, "job");
  return `${rows === 0 ? "None" : plural(rows, "job")} so far; with this filter they are not counted`;
}
