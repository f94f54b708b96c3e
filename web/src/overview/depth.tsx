import { useState } from "preact/hooks";
import { Badge } from "../components/badge.tsx";
import { Button } from "../components/button.tsx";
import { Card } from "../components/card.tsx";
import { Code, EmptyState } from "../components/states.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Since } from "../components/time.tsx";
import { count, plural } from "../format.ts";
import { href } from "../router.ts";
import type { DepthRow, Overview } from "../types.ts";

const FIRST = 12;

/** How many jobs there are of each type, by status. Every number leads to its jobs. */
export function Depth({ overview }: { overview: Overview }) {
  const [all, setAll] = useState(false);
  const rows = [...overview.depth].sort(byNeed);
  if (rows.length === 0)
    return (
      <Card title="Depth by type and status">
        <NoJobs />
      </Card>
    );
  const shown = all ? rows : rows.slice(0, FIRST);
  return (
    <Card title="Depth by type and status" hint={plural(overview.counts.total, "job")} flush>
      <Table caption="Jobs by type and status" narrow="tiles" columns={COLUMNS} rows={shown} rowKey={(row) => JSON.stringify([row.queue, row.type])} />
      {rows.length > shown.length && (
        <div class="card-more">
          <Button kind="quiet" small onClick={() => setAll(true)}>
            Show all {plural(rows.length, "type")}
          </Button>
        </div>
      )}
    </Card>
  );
}

const COLUMNS: Column<DepthRow>[] = [
  {
    head: "Type",
    header: true,
    cell: (row) => (
      <span class="row">
        <a class="wrap strong" href={href("/jobs", { type: row.type, queue: row.queue })}>
          {row.type}
        </a>
        {!row.handled && row.ready + row.scheduled > 0 && (
          <Badge tone="warn" title="No living worker has a handler for it">
            no worker
          </Badge>
        )}
      </span>
    ),
  },
  {
    head: "Queue",
    cell: (row) => (
      <span class="row">
        <a class="wrap quiet-link" href={href("/queues")}>{row.queue}</a>
        {row.paused && <Badge tone="warn">paused</Badge>}
      </span>
    ),
  },
  { head: "Scheduled", end: true, cell: (row) => <Number row={row} value={row.scheduled} status="pending" /> },
  { head: "Ready", end: true, cell: (row) => <Number row={row} value={row.ready} status="pending" /> },
  { head: "Processing", end: true, cell: (row) => <Number row={row} value={row.processing} status="processing" /> },
  { head: "Completed", end: true, cell: (row) => <Number row={row} value={row.completed} status="completed" /> },
  { head: "Failed", end: true, cell: (row) => <Number row={row} value={row.failed} status="failed" bad /> },
  { head: "Cancelled", end: true, cell: (row) => <Number row={row} value={row.cancelled} status="cancelled" /> },
  { head: "Oldest ready", end: true, class: "nowrap", cell: (row) => <Since at={row.oldestReadyAt} /> },
];

function Number({ row, value, status, bad }: { row: DepthRow; value: number; status: string; bad?: boolean }) {
  if (value === 0) return <span class="muted">0</span>;
  return (
    <a class={`quiet-link${bad ? " bad-link" : ""}`} href={href("/jobs", { status, type: row.type, queue: row.queue })}>
      {count(value)}
    </a>
  );
}

/** What waits and cannot run first, then what waits most; by magnitude, so that rows do not jump about. */
function byNeed(a: DepthRow, b: DepthRow): number {
  const need = (row: DepthRow) => (row.ready > 0 && !row.handled ? 100 : 0) + Math.floor(Math.log10(row.ready + 1));
  return need(b) - need(a) || (a.type < b.type ? -1 : 1);
}

export function NoJobs() {
  return (
    <EmptyState icon="jobs" title="No job has been added yet">
      <p>Add one from your program:</p>
      <Code>{'await queue.add_job("send_mail", {"to": "ann@example.org"})'}</Code>
      <p>or over HTTP:</p>
      <Code>{`curl ${location.origin}/api/jobs \\\n  -H 'Content-Type: application/json' \\\n  -d '{"type": "send_mail", "payload": {"to": "ann@example.org"}}'`}</Code>
    </EmptyState>
  );
}
