// One action on all jobs of a filter, batch after batch. The network is passed in.

import type { BulkAction, BulkBatch, BulkPreview, JobFilter } from "../types.ts";
import { count, listed, plural } from "../format.ts";

export interface BulkRequest {
  action: BulkAction;
  filter: JobFilter;
  dryRun?: true;
  after?: string;
}

export interface Progress {
  changed: number;
  refused: number;
  batches: number;
  /** Where it would go on; absent at the end. */
  next?: string;
}

export const NOTHING_DONE: Progress = { changed: 0, refused: 0, batches: 0 };

/** How a run ended: all visited, stopped by the reader, or *error* (what was done before it holds). */
export type Ending = { kind: "done" | "stopped" } | { kind: "failed"; error: unknown };

/**
 * Batches until there is none left. A stop takes effect between two batches: each is a transaction.
 *
 * @param from what an earlier run has done, to go on after it.
 */
export async function runBulk(
  request: BulkRequest,
  send: (request: BulkRequest) => Promise<BulkBatch>,
  told: (progress: Progress) => void,
  stopped: () => boolean,
  from: Progress = NOTHING_DONE,
): Promise<Ending> {
  let progress = from;
  for (;;) {
    if (stopped()) return { kind: "stopped" };
    let batch: BulkBatch;
    try {
      batch = await send(progress.next === undefined ? request : { ...request, after: progress.next });
    } catch (error) {
      return { kind: "failed", error };
    }
    progress = {
      changed: progress.changed + batch.changed,
      refused: progress.refused + batch.refused,
      batches: progress.batches + 1,
      next: batch.nextCursor,
    };
    told(progress);
    if (batch.nextCursor === undefined) return { kind: "done" };
  }
}

/** "Retry 1,240 jobs that are failed or cancelled of type x"; the whole filter is spelled out below it. */
export function sentence(action: BulkAction, preview: BulkPreview, type?: string): string {
  const jobs = preview.exact ? plural(preview.matching, "job") : `at least ${plural(preview.matching, "job")}`;
  const verb = action[0]!.toUpperCase() + action.slice(1);
  const are = preview.exact && preview.matching === 1 ? "is" : "are";
  const statuses = listed(preview.statuses).replace(/ and ([^ ]*)$/, " or $1");
  const that = statuses === "" ? "" : ` that ${are} ${statuses}`;
  return `${verb} ${jobs}${that}${type ? ` of type ${type}` : ""}`;
}

const DONE: Record<BulkAction, string> = {
  retry: "will run again",
  cancel: "cancelled, or asked to stop if running",
  delete: "deleted",
};

/** What a run has come to. */
export function summary(action: BulkAction, progress: Progress): string {
  const refused =
    progress.refused === 0 ? "" : ` ${count(progress.refused)} refused: they had changed in the meantime, or something forbids it.`;
  return `${plural(progress.changed, "job")} ${DONE[action]}.${refused}`;
}
