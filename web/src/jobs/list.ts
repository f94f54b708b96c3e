// The jobs of one filter: the live first page and what was loaded below it, as signals.

import { signal, type Signal } from "@preact/signals";
import { get, messageOf } from "../api.ts";
import type { JobFilter, JobList, JobRow } from "../types.ts";
import { searchPath } from "./filter.ts";
import { append, merge } from "./merge.ts";

export const PAGE = 100;

export class Loaded {
  readonly rows: Signal<JobRow[]> = signal([]);
  readonly total: Signal<number | null> = signal(null);
  /** How many jobs were looked at below the first page. */
  readonly scanned = signal(0);
  readonly loading = signal(false);
  readonly error: Signal<string | null> = signal(null);
  /** Where the next page begins; undefined: that is all. */
  readonly next: Signal<string | undefined> = signal(undefined);
  /** The last page was not full: going on costs, so the reader is asked. */
  readonly short = signal(false);
  /** Something was loaded below the first page: that is as it was then. */
  get deep(): boolean {
    return this.#deep;
  }
  /** More has come than the first page holds; what is shown is as it was. */
  readonly gap = signal(false);
  /** Jobs that came while the reader was not at the top. */
  readonly unseen = signal(0);
  readonly known = signal(false);

  readonly #filter: JobFilter;
  readonly #load: (path: string) => Promise<JobList>;
  #head: JobList | null = null;
  #deep = false;
  #stop = false;
  #atTop = true;

  constructor(filter: JobFilter, load: (path: string) => Promise<JobList> = get<JobList>) {
    this.#filter = filter;
    this.#load = load;
  }

  /** The first page, as the server has just told it. */
  show(head: JobList): void {
    const first = this.#head === null;
    this.#head = head;
    this.total.value = head.total;
    // Until something is loaded below it, or while its top is read, the first page is the list.
    if (first || (!this.#deep && this.#atTop)) this.#restart(head);
    else {
      const merged = merge(this.rows.value, head.jobs, head.nextCursor === undefined);
      if (merged.gap && this.#atTop) this.#restart(head);
      else {
        this.rows.value = merged.rows;
        this.gap.value = merged.gap;
        if (head.nextCursor === undefined) this.next.value = undefined;
        this.#note(merged.added);
      }
    }
    this.known.value = true;
  }

  atTop(atTop: boolean): void {
    this.#atTop = atTop;
    if (!atTop) return;
    this.unseen.value = 0;
    if (this.gap.value) this.newest();
  }

  /** Begin again with the newest. */
  newest(): void {
    if (this.#head !== null) this.#restart(this.#head);
  }

  /** The next page. *on*: past pages without a match, until one is found or `stop`. */
  async more(on = false): Promise<void> {
    if (this.loading.value || this.next.value === undefined) return;
    this.loading.value = true;
    this.error.value = null;
    this.#stop = false;
    try {
      for (;;) {
        const before: string | undefined = this.next.value;
        if (before === undefined) break;
        const page: JobList = await this.#load(searchPath(this.#filter, before, PAGE));
        // The list was begun again meanwhile: this page does not belong to it.
        if (this.next.value !== before) break;
        this.#deep = true;
        this.rows.value = append(this.rows.value, page.jobs);
        this.scanned.value += page.scanned;
        this.next.value = page.nextCursor;
        this.short.value = page.jobs.length < PAGE && page.nextCursor !== undefined;
        if (!on || page.jobs.length > 0 || page.nextCursor === undefined || this.#stop) break;
      }
    } catch (error) {
      this.error.value = messageOf(error);
    } finally {
      this.loading.value = false;
    }
  }

  stop(): void {
    this.#stop = true;
  }

  #restart(head: JobList): void {
    this.#deep = false;
    this.rows.value = head.jobs;
    this.next.value = head.nextCursor;
    this.scanned.value = head.scanned;
    this.short.value = head.jobs.length < PAGE && head.nextCursor !== undefined;
    this.gap.value = false;
    this.unseen.value = 0;
  }

  #note(added: number): void {
    this.unseen.value = this.#atTop ? 0 : this.unseen.value + added;
  }
}
