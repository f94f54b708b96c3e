import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { attempt, post } from "../api.ts";
import { Badge } from "../components/badge.tsx";
import { Button } from "../components/button.tsx";
import { Card, PageHead } from "../components/card.tsx";
import { confirm } from "../components/confirm.tsx";
import { Input } from "../components/field.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Since } from "../components/time.tsx";
import { count, plural } from "../format.ts";
import { useLive } from "../live.ts";
import { NoJobs } from "../overview/depth.tsx";
import { href, route, setQuery } from "../router.ts";
import { can } from "../session.ts";
import type { QueueList, QueueRow, QueueTypeRow } from "../types.ts";

/** From this number of queues on, a search is of use. */
const MANY = 6;

export function QueuesPage() {
  const { data, problem } = useLive<QueueList>("queues").value;
  const text = route.value.query.text ?? "";
  const shown = (data?.queues ?? []).filter((queue) => matches(queue, text));
  const searchable = data !== null && (data.queues.length >= MANY || text !== "");
  return (
    <>
      <PageHead title="Queues" lead="A paused queue takes jobs in and gives none out. What runs already goes on." />
      {problem !== null ? (
        <ProblemBox problem={problem} />
      ) : data === null ? (
        <Skeleton lines={8} />
      ) : data.queues.length === 0 ? (
        <Card>
          <NoJobs />
        </Card>
      ) : (
        <div class="stack">
          {searchable && (
            <Input label="Search queues and types" hideLabel type="search" placeholder="Search queues and types" class="search" value={text} onChange={(value) => setQuery({ text: value })} />
          )}
          {shown.map((queue) => (
            <QueueCard key={queue.name} queue={queue} />
          ))}
          {shown.length === 0 && <EmptyState icon="search" title={`No queue or type contains “${text}”`} />}
        </div>
      )}
    </>
  );
}

function matches(queue: QueueRow, text: string): boolean {
  const wanted = text.toLowerCase();
  return [queue.name, ...queue.types.map((one) => one.type)].some((name) => name.toLowerCase().includes(wanted));
}

function QueueCard({ queue }: { queue: QueueRow }) {
  return (
    <Card
      title={<span class="wrap">{queue.name}</span>}
      hint={
        <span class="row">
          {queue.paused && <Badge tone="warn">paused</Badge>}
          {queue.workers === 0 ? <Badge tone="bad">no worker</Badge> : `${plural(queue.workers, "worker")}, ${plural(queue.slots, "slot")}`}
        </span>
      }
      actions={can("operator") && <PauseButton queue={queue} />}
      flush
    >
      <dl class="figures">
        <Figure name="Ready" value={<Jobs queue={queue} status="pending" value={queue.ready} />} />
        <Figure name="Scheduled" value={<Jobs queue={queue} status="pending" value={queue.scheduled} />} />
        <Figure name="Processing" value={<Jobs queue={queue} status="processing" value={queue.processing} />} />
        <Figure name="Completed" value={<Jobs queue={queue} status="completed" value={queue.completed} />} />
        <Figure name="Failed" value={<Jobs queue={queue} status="failed" value={queue.failed} />} />
        <Figure name="Oldest ready" value={<Since at={queue.oldestReadyAt} none="none" />} />
      </dl>
      {queue.types.length > 0 && <Table caption={`Types of jobs in the queue ${queue.name}`} narrow="tiles" even columns={columns(queue)} rows={queue.types} rowKey={(row) => row.type} />}
    </Card>
  );
}

function Figure({ name, value }: { name: string; value: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Jobs({ queue, status, value }: { queue: QueueRow; status: string; value: number }) {
  if (value === 0) return <>0</>;
  return (
    <a class={`quiet-link${status === "failed" ? " bad-link" : ""}`} href={href("/jobs", { queue: queue.name, status })}>
      {count(value)}
    </a>
  );
}

function columns(queue: QueueRow): Column<QueueTypeRow>[] {
  return [
    {
      head: "Type",
      header: true,
      cell: (row) => (
        <a class="wrap strong" href={href("/jobs", { queue: queue.name, type: row.type })}>
          {row.type}
        </a>
      ),
    },
    {
      head: "Handler",
      cell: (row) => (row.handled ? "has workers" : <Badge tone="warn" title="No living worker has a handler for it">no worker</Badge>),
    },
    { head: "Limit", cell: (row) => (row.limit === null ? <span class="muted">none</span> : `${row.limit} per process`) },
    { head: "Ready", end: true, cell: (row) => count(row.ready) },
    { head: "Processing", end: true, cell: (row) => count(row.processing) },
  ];
}

function PauseButton({ queue }: { queue: QueueRow }) {
  const [busy, setBusy] = useState(false);
  const { name, paused, ready, processing } = queue;

  async function press(): Promise<void> {
    const sure = await confirm(
      paused
        ? {
            title: `Resume the queue ${name}?`,
            text: <p>{ready === 0 ? "No job waits in it." : `${plural(ready, "job")} may start at once.`}</p>,
            action: "Resume queue",
          }
        : {
            title: `Pause the queue ${name}?`,
            text: (
              <p>
                Workers claim nothing more from it. {processing > 0 && `${plural(processing, "running job")} will end as usual. `}
                Jobs can still be added; they wait{ready > 0 && ` with the ${count(ready)} that are ready`}.
              </p>
            ),
            action: "Pause queue",
          },
    );
    if (!sure) return;
    setBusy(true);
    await attempt(
      () => post(`/api/queues/${encodeURIComponent(name)}/${paused ? "resume" : "pause"}`),
      paused ? `Queue ${name} goes on` : `Queue ${name} is paused`,
    );
    setBusy(false);
  }

  return (
    <Button small kind={paused ? "primary" : "plain"} icon={paused ? "play" : "pause"} busy={busy} onClick={() => void press()}>
      {paused ? "Resume" : "Pause"}
      <span class="visually-hidden"> queue {name}</span>
    </Button>
  );
}
