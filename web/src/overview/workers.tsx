import { Badge } from "../components/badge.tsx";
import { Bar } from "../components/bar.tsx";
import { Card } from "../components/card.tsx";
import { Code, EmptyState } from "../components/states.tsx";
import { Table, type Column } from "../components/table.tsx";
import { bytes, duration, listed, plural, roughly } from "../format.ts";
import type { WorkerRow } from "../types.ts";

export function Workers({ workers }: { workers: WorkerRow[] }) {
  const alive = workers.filter((worker) => worker.alive).length;
  if (workers.length === 0)
    return (
      <Card title="Workers">
        <EmptyState icon="instances" title="No worker is running">
          <p>Jobs are kept and wait. A worker is your program with its handlers:</p>
          <Code>{"await queue.start_processing()"}</Code>
          <p>
            or <code>durably serve</code>, which runs those of the service.
          </p>
        </EmptyState>
      </Card>
    );
  const dead = workers.length - alive;
  return (
    <Card title="Workers" hint={dead === 0 ? `${alive} alive` : `${alive} alive, ${dead} dead`} flush>
      <Table
        caption="Workers"
        narrow="tiles"
        columns={COLUMNS}
        rows={workers}
        rowKey={(worker) => worker.id}
        rowClass={(worker) => (worker.alive ? undefined : "row-dead")}
      />
    </Card>
  );
}

const COLUMNS: Column<WorkerRow>[] = [
  {
    head: "Worker",
    header: true,
    cell: (worker) => (
      <span class="row">
        <span class="strong wrap">
          {worker.host}:{worker.pid}
        </span>
        <span class="muted small">#{worker.id}</span>
        {!worker.alive && (
          <Badge tone="bad" title="Its lease has run out; its jobs run again elsewhere">
            dead
          </Badge>
        )}
      </span>
    ),
  },
  {
    head: "Slots",
    cell: (worker) => (
      <span class="slots">
        <Bar
          fraction={worker.slots === 0 ? 0 : worker.held / worker.slots}
          label={`Slots of ${worker.host}:${worker.pid} in use`}
          tone={!worker.alive ? "bad" : worker.held >= worker.slots ? "warn" : "accent"}
        />
        <span class="nowrap">
          {worker.held} of {worker.slots}
        </span>
      </span>
    ),
  },
  { head: "Memory", end: true, class: "nowrap", cell: (worker) => (worker.memoryBytes === null ? "–" : bytes(worker.memoryBytes)) },
  {
    head: "Renewed",
    end: true,
    class: "nowrap",
    cell: (worker) => <Renewed worker={worker} />,
  },
  { head: "Queues", class: "wrap", cell: (worker) => (worker.queues.length === 0 ? "all" : listed(worker.queues)) },
  { head: "Types", class: "wide-tile", cell: (worker) => <Types worker={worker} /> },
];

/** Leases are renewed while jobs are held: an idle worker that renewed long ago is well. */
function Renewed({ worker }: { worker: WorkerRow }) {
  const { alive, held, lease, renewedAgo } = worker;
  const ago = renewedAgo === null ? "–" : `${roughly(renewedAgo)} ago`;
  if (!alive || held > 0 || renewedAgo === null || renewedAgo < lease) return <span title={`Its lease is ${duration(lease)}`}>{ago}</span>;
  return (
    <span class="muted" title={`It renews its lease while it holds jobs, the last time ${ago}`}>
      idle
    </span>
  );
}

const NAMED = 3;

function Types({ worker }: { worker: WorkerRow }) {
  const { types, limits } = worker;
  if (types.length === 0) return <span class="muted">none</span>;
  const named = types.slice(0, NAMED).map((type) => (limits[type] === undefined ? type : `${type} (at most ${limits[type]})`));
  const rest = types.length - named.length;
  return (
    <span class="wrap" title={types.join(", ")}>
      {named.join(", ")}
      {rest > 0 && ` and ${plural(rest, "more", "more")}`}
    </span>
  );
}
