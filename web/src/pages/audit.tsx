import { useEffect, useState } from "preact/hooks";
import { attempt, get } from "../api.ts";
import { Button } from "../components/button.tsx";
import { Card, PageHead } from "../components/card.tsx";
import { Input, Select } from "../components/field.tsx";
import { JsonView } from "../components/json.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Table, type Column } from "../components/table.tsx";
import { Time } from "../components/time.tsx";
import { count, plural } from "../format.ts";
import { useLive } from "../live.ts";
import { withNewest, withOlder } from "../merge.ts";
import { href, route, setQuery } from "../router.ts";
import type { AuditEntry, AuditList } from "../types.ts";

const PAGE = 200;
/** Every job that is added through the API is an entry: so many that they hide the others. */
const ADDED = "job.enqueue";
const BUT_ADDED = "-added";

/** Who changed what through the API. */
export function AuditPage() {
  const { data, problem } = useLive<AuditList>("audit").value;
  const [held, setHeld] = useState<{ items: readonly AuditEntry[]; more: boolean } | null>(null);
  const [busy, setBusy] = useState(false);
  const { text = "", by = "", action = "" } = route.value.query;

  useEffect(() => {
    if (data === null) return;
    const newest = { items: data.entries, more: data.nextCursor !== undefined };
    setHeld((before) => (before === null ? newest : withNewest(before, newest)));
  }, [data]);

  async function older(): Promise<void> {
    setBusy(true);
    await attempt(async () => {
      const page = await get<AuditList>(`/api/audit?limit=${PAGE}&after=${held!.items.at(-1)!.id}`);
      setHeld((before) => before && withOlder(before, { items: page.entries, more: page.nextCursor !== undefined }));
    });
    setBusy(false);
  }

  const items = held?.items ?? [];
  const shown = items.filter((entry) => matches(entry, text, by, action));
  return (
    <>
      <PageHead title="Audit" lead="Every change made through the API, with who made it. Entries are kept for 90 days, those of added jobs as long as the jobs." />
      {problem !== null ? (
        <ProblemBox problem={problem} />
      ) : held === null ? (
        <Skeleton lines={8} />
      ) : items.length === 0 ? (
        <Card>
          <EmptyState icon="audit" title="Nothing has been changed yet">
            <p>Adding, retrying or cancelling jobs, pausing queues and creating instances leave an entry here.</p>
          </EmptyState>
        </Card>
      ) : (
        <div class="stack">
          <div class="audit-filters">
            <Input label="Search" type="search" placeholder="Subject, request or detail" value={text} onChange={(value) => setQuery({ text: value })} />
            <Select label="By" value={by} onChange={(value) => setQuery({ by: value })} options={choices("Everybody", items.map((entry) => entry.by), by)} />
            <Select label="Action" value={action} onChange={(value) => setQuery({ action: value })} options={actions(items, action)} />
          </div>
          <Card title="Entries" hint={`${count(shown.length)} of ${count(items.length)} loaded`} flush>
            {shown.length === 0 ? (
              <EmptyState icon="search" title="No loaded entry matches" action={<Button onClick={() => setQuery({ text: "", by: "", action: "" })}>Clear the filter</Button>} />
            ) : (
              <Table caption="Audit entries, newest first" columns={COLUMNS} rows={shown} rowKey={(entry) => entry.id} />
            )}
            <div class="card-more">
              {held.more ? (
                <Button kind="quiet" small busy={busy} onClick={() => void older()}>
                  Load {plural(PAGE, "older entry", "older entries")}
                </Button>
              ) : (
                <span class="muted small">That is all.</span>
              )}
            </div>
          </Card>
        </div>
      )}
    </>
  );
}

const COLUMNS: Column<AuditEntry>[] = [
  { head: "When", class: "nowrap", cell: (entry) => <Time at={entry.at} /> },
  { head: "By", class: "id", cell: (entry) => <span title={entry.by}>{entry.by}</span> },
  { head: "Action", header: true, class: "nowrap", cell: (entry) => <code>{entry.action}</code> },
  { head: "Subject", class: "id", cell: (entry) => <Subject entry={entry} /> },
  { head: "Details", cell: (entry) => <Details entry={entry} /> },
];

function Subject({ entry }: { entry: AuditEntry }) {
  const { action, subject } = entry;
  const path = action.startsWith("job.")
    ? `/jobs/${encodeURIComponent(subject)}`
    : action.startsWith("instance.")
      ? `/instances/${encodeURIComponent(subject)}`
      : action.startsWith("queue.")
        ? "/queues"
        : null;
  return path === null ? (
    <span title={subject}>{subject}</span>
  ) : (
    <a href={href(path)} title={subject}>
      {subject}
    </a>
  );
}

function Details({ entry }: { entry: AuditEntry }) {
  const pairs = Object.entries(entry.details);
  const summary = pairs.map(([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return (
    <details class="audit-details">
      <summary>
        <span>{summary === "" ? <span class="muted">request</span> : summary}</span>
      </summary>
      <p class="muted small">Request {entry.requestId}</p>
      {pairs.length > 0 && <JsonView value={entry.details} label={`Details of entry ${entry.id}`} />}
    </details>
  );
}

function matches(entry: AuditEntry, text: string, by: string, action: string): boolean {
  if (by !== "" && entry.by !== by) return false;
  if (action === BUT_ADDED ? entry.action === ADDED : action !== "" && entry.action !== action) return false;
  const wanted = text.toLowerCase();
  return wanted === "" || [entry.subject, entry.requestId, entry.by, entry.action, JSON.stringify(entry.details)].some((part) => part.toLowerCase().includes(wanted));
}

function choices(all: string, values: string[], chosen: string) {
  const known = [...new Set([...values, ...(chosen === "" ? [] : [chosen])])].sort();
  return [{ value: "", label: all }, ...known.map((value) => ({ value, label: value }))];
}

function actions(items: readonly AuditEntry[], chosen: string) {
  const [all, ...known] = choices("Everything", items.map((entry) => entry.action), chosen === BUT_ADDED ? "" : chosen);
  return [all!, { value: BUT_ADDED, label: "Everything but added jobs" }, ...known];
}
