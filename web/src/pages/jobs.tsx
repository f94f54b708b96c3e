import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button } from "../components/button.tsx";
import { PageHead } from "../components/card.tsx";
import { Code, EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { VirtualList } from "../components/virtual-list.tsx";
import { capital, count, plural } from "../format.ts";
import { BulkDialog, type Asked } from "../jobs/bulk-dialog.tsx";
import { actionsFor, filterOf, found, isEmpty, topicOf } from "../jobs/filter.ts";
import { clearAll, FilterBar } from "../jobs/filter-bar.tsx";
import { Loaded } from "../jobs/list.ts";
import { JobsHead, JobsRow, ROW_HEIGHT } from "../jobs/row.tsx";
import { useLive } from "../live.ts";
import { narrow } from "../narrow.ts";
import { route } from "../router.ts";
import { can } from "../session.ts";
import type { BulkAction, JobList, JobRow, Overview } from "../types.ts";

const ICONS = { retry: "retry", cancel: "cancel", delete: "trash" } as const;

export function JobsPage() {
  const filter = filterOf(route.value.query);
  const topic = topicOf(filter);
  const live = useLive<JobList>(topic).value;
  const depth = useLive<Overview>("overview").value.data?.depth ?? null;
  const list = useMemo(() => new Loaded(filter), [topic]);
  const [asked, setAsked] = useState<Asked | null>(null);
  // While another filter is on its way, what was shown stays: typing makes no flicker.
  const before = useRef(list);
  const known = list.known.value;
  if (known) before.current = list;
  const shown = known ? list : before.current;
  useEffect(() => {
    if (live.data !== null) list.show(live.data);
  }, [list, live.data]);

  return (
    <div class="jobs-page">
      <PageHead title="Jobs" />
      <FilterBar filter={filter} depth={depth} />
      <div class="jobs-bar">
        <div class="jobs-found">
          <p class="muted">
            {known && found(list.total.value, list.rows.value.length, list.next.value !== undefined)}
          </p>
          {!isEmpty(filter) && (
            <Button kind="quiet" small icon="close" onClick={clearAll}>
              Clear all filters
            </Button>
          )}
        </div>
        {can("operator") && known && list.rows.value.length > 0 && (
          <div class="row" role="group" aria-label="Do to all jobs that match">
            {actionsFor(filter.status).map((action: BulkAction) => (
              <Button key={action} small icon={narrow.value ? undefined : ICONS[action]} aria-haspopup="dialog" onClick={() => setAsked({ action, filter })}>
                {capital(action)} all…
              </Button>
            ))}
          </div>
        )}
      </div>
      {live.problem !== null ? (
        <ProblemBox problem={live.problem} />
      ) : !shown.known.value || (!known && shown.rows.value.length === 0) ? (
        <div class="card">
          <Skeleton lines={8} label="Loading jobs" />
        </div>
      ) : known && list.rows.value.length === 0 && list.next.value === undefined ? (
        <div class="card">{isEmpty(filter) ? <NoJobs /> : <NoMatch />}</div>
      ) : (
        <Rows list={shown} old={!known} />
      )}
      <BulkDialog asked={asked} onClose={() => setAsked(null)} onChanged={() => list.newest()} />
    </div>
  );
}

function Rows({ list, old }: { list: Loaded; old: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const onTop = useCallback((atTop: boolean) => list.atTop(atTop), [list]);
  // Where pages come back nearly empty, each costs a long search: then only the reader goes on.
  const onEnd = useCallback(() => {
    if (!old && !list.short.value && list.error.value === null) void list.more();
  }, [list, old]);
  useEffect(() => {
    if (box.current !== null) box.current.scrollTop = 0;
  }, [list]);
  const unseen = list.unseen.value;
  return (
    <div class={`card jobs-list${old ? " jobs-list-old" : ""}`} aria-busy={old || undefined}>
      {(unseen > 0 || list.gap.value) && (
        <button
          type="button"
          class="jobs-new"
          onClick={() => {
            if (list.gap.value) list.newest();
            box.current?.scrollTo({ top: 0 });
            box.current?.focus({ preventScroll: true });
          }}
        >
          {list.gap.value ? "Many new jobs" : plural(unseen, "new job")} above
        </button>
      )}
      <VirtualList<JobRow>
        label="Jobs"
        items={list.rows.value}
        rowHeight={narrow.value ? ROW_HEIGHT.narrow : ROW_HEIGHT.wide}
        itemKey={keyOf}
        row={rowOf}
        head={<JobsHead />}
        onEnd={onEnd}
        foot={<Foot list={list} />}
        total={list.total.value}
        boxRef={box}
        onTop={onTop}
      />
    </div>
  );
}

const keyOf = (job: JobRow) => job.id;
const rowOf = (job: JobRow, index: number) => <JobsRow job={job} index={index} />;

function Foot({ list }: { list: Loaded }) {
  const rows = list.rows.value.length;
  if (list.error.value !== null)
    return (
      <div class="row row-center">
        <span>{list.error.value}</span>
        <Button small onClick={() => void list.more()}>
          Try again
        </Button>
      </div>
    );
  if (list.loading.value)
    return (
      <div class="row row-center" role="status">
        <span class="spinner" aria-hidden="true" />
        {list.short.value ? `Searched ${plural(list.scanned.value, "job")}, going on` : "Loading more jobs"}
        {list.short.value && (
          <Button small onClick={() => list.stop()}>
            Stop
          </Button>
        )}
      </div>
    );
  if (list.short.value)
    return (
      <div class="row row-center">
        <span>
          Searched {plural(list.scanned.value, "job")}, {rows === 0 ? "nothing yet" : `${count(rows)} found so far`}.
        </span>
        <Button small onClick={() => void list.more(true)}>
          Go on searching
        </Button>
      </div>
    );
  if (list.next.value !== undefined) return null;
  return (
    <>
      That is all: {plural(rows, "job")}.{list.deep && " Those below the newest 100 are as they were when they were loaded."}
    </>
  );
}

function NoMatch() {
  return (
    <EmptyState icon="search" title="No job matches" action={<Button onClick={clearAll}>Clear all filters</Button>}>
      <p>Nothing that is kept fits every part of the filter. Finished jobs are deleted some time after their end.</p>
    </EmptyState>
  );
}

function NoJobs() {
  return (
    <EmptyState icon="jobs" title="No jobs yet">
      <p>Jobs appear here as soon as a program adds one:</p>
      <Code>{'async with JobQueueService("sqlite:///jobs.db") as queue:\n    await queue.add_job("send_mail", {"to": "ann@example.org"})'}</Code>
    </EmptyState>
  );
}
