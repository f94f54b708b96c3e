import { useState } from "preact/hooks";
import { attempt, get } from "../api.ts";
import { StatusBadge } from "../components/badge.tsx";
import { Button } from "../components/button.tsx";
import { Card, PageHead } from "../components/card.tsx";
import { Code, EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Time } from "../components/time.tsx";
import { plural, usd } from "../format.ts";
import { InstanceActions } from "../instances/actions.tsx";
import { CreateDialog } from "../instances/create-dialog.tsx";
import { useLive } from "../live.ts";
import { href } from "../router.ts";
import { can } from "../session.ts";
import type { InstanceList, InstanceView } from "../types.ts";

const COLUMNS: Column<InstanceView>[] = [
  {
    head: "Name",
    header: true,
    cell: (one) => (
      <a class="strong wrap" href={href(`/instances/${encodeURIComponent(one.id)}`)}>
        {one.name}
      </a>
    ),
  },
  {
    head: "Status",
    cell: (one) => (
      <span class="instance-status">
        <StatusBadge status={one.status} />
        {(one.operationError ?? one.lastError) !== null && <span class="instance-error">{one.operationError ?? one.lastError}</span>}
      </span>
    ),
  },
  {
    head: "GPU",
    cell: (one) => (
      <span class="wrap">
        {one.gpuNum} × {one.productName}
      </span>
    ),
  },
  { head: "Region", cell: (one) => one.chosenRegion ?? <span class="muted">{one.region} asked for</span> },
  {
    head: "Price",
    end: true,
    cell: (one) => (one.hourlyPrice === null ? <span class="muted">–</span> : <span class="nowrap">{usd(one.hourlyPrice)}/h</span>),
  },
  { head: "Cost so far", end: true, cell: (one) => (one.cost === null ? <span class="muted">–</span> : usd(one.cost)) },
  { head: "Asked for", end: true, cell: (one) => <Time at={one.createdAt} /> },
  {
    head: <span class="visually-hidden">Actions</span>,
    label: "",
    end: true,
    cell: (one) => (
      <span class="row-actions">
        <InstanceActions instance={one} small />
      </span>
    ),
  },
];
const EXAMPLE = `curl ${location.origin}/api/instances \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Idempotency-Key: $(uuidgen)" \\
  --json '{"name": "trainer", "templateId": "107672",
           "productName": "RTX 4090 24GB"}'`;
const LOOKING = COLUMNS.slice(0, -1);

export function InstancesPage() {
  const { data, problem } = useLive<InstanceList>("instances").value;
  const [creating, setCreating] = useState(false);
  const [older, setOlder] = useState<{ rows: InstanceView[]; next: string | undefined } | null>(null);
  const [busy, setBusy] = useState(false);
  const rent = can("operator") && (
    <Button kind="primary" icon="plus" aria-haspopup="dialog" onClick={() => setCreating(true)}>
      Rent a GPU
    </Button>
  );
  const live = data?.instances ?? [];
  const known = new Set(live.map((one) => one.id));
  const rows = [...live, ...(older?.rows.filter((one) => !known.has(one.id)) ?? [])];
  const next = older === null ? data?.nextCursor : older.next;

  async function more(): Promise<void> {
    setBusy(true);
    await attempt(async () => {
      const page = await get<InstanceList>(`/api/instances?limit=100&after=${encodeURIComponent(next!)}`);
      setOlder({ rows: [...(older?.rows ?? []), ...page.instances], next: page.nextCursor });
    });
    setBusy(false);
  }

  return (
    <>
      <PageHead title="Instances" lead={data !== null && data.total > 0 ? summaryOf(data) : undefined} actions={data !== null && data.total > 0 ? rent : undefined} />
      {problem !== null ? (
        <ProblemBox problem={problem} />
      ) : data === null ? (
        <div class="card">
          <Skeleton lines={6} label="Loading instances" />
        </div>
      ) : rows.length === 0 ? (
        <div class="card">
          <EmptyState icon="instances" title="No GPU is rented" action={rent}>
            <p>
              One request ends with exactly one billed GPU or none, whatever is killed or lost on the way: it is created where it is cheapest, watched until
              its ports answer, and deleted upstream if that fails.
            </p>
            <p>Programs ask over HTTP:</p>
            <Code>{EXAMPLE}</Code>
            {!can("operator") && <p>To rent one takes the role of an operator.</p>}
          </EmptyState>
        </div>
      ) : (
        <Card flush>
          <Table caption="Instances" columns={can("operator") ? COLUMNS : LOOKING} rows={rows} rowKey={(one) => one.id} />
          {next !== undefined && (
            <div class="table-foot">
              <Button busy={busy} onClick={() => void more()}>
                Show older ones
              </Button>
            </div>
          )}
        </Card>
      )}
      <CreateDialog open={creating} onClose={() => setCreating(false)} />
    </>
  );
}

/** What runs and what that costs, of those on the live page. */
function summaryOf({ instances, total }: InstanceList): string {
  const billed = instances.filter((one) => one.hourlyPrice !== null && ["starting", "running", "health_checking", "ready"].includes(one.status));
  const hour = billed.reduce((sum, one) => sum + (one.hourlyPrice ?? 0), 0);
  return `${plural(total, "instance")} in all; ${billed.length === 0 ? "none is running" : `${plural(billed.length, "runs", "run")} at ${usd(hour)} an hour`}.`;
}
