import { useEffect, useRef, useState } from "preact/hooks";
import { now, serverNow } from "../clock.ts";
import { Button } from "../components/button.tsx";
import { Dialog } from "../components/dialog.tsx";
import { Input, Select, type Option } from "../components/field.tsx";
import { Menu } from "../components/menu.tsx";
import { absolute, capital, count, relative, shortCount, words } from "../format.ts";
import { narrow } from "../narrow.ts";
import { href, setQuery } from "../router.ts";
import type { DepthRow, JobFilter } from "../types.ts";
import { countsOf, fromLocal, narrowings, sinceAgo, STATUSES, toLocal } from "./filter.ts";

const TYPING_MS = 250;
const RANGES: [string, number][] = [
  ["Last 15 minutes", 900],
  ["Last hour", 3_600],
  ["Last 24 hours", 86_400],
  ["Last 7 days", 604_800],
];

export function clearAll(): void {
  setQuery({ status: null, type: null, queue: null, tag: null, text: null, since: null, until: null });
}

/** Every part of the filter stands in the address; *depth* says which types and queues there are. */
export function FilterBar({ filter, depth }: { filter: JobFilter; depth: DepthRow[] | null }) {
  const [text, setText] = useTyped(filter.text ?? "", (value) => setQuery({ text: value }));
  const [tag, setTag] = useTyped(filter.tag ?? "", (value) => setQuery({ tag: value }));
  const [open, setOpen] = useState(false);
  const more = narrowings({ ...filter, text: undefined });
  return (
    <search class="filters" aria-label="Filter the jobs">
      <StatusTabs filter={filter} depth={depth} />
      <div class="filter-line">
        <Input label="Search" hideLabel type="search" class="filter-text" placeholder="Text in id, type, key, error, tags, payload" value={text} onChange={setText} data-search />
        {narrow.value && (
          <Button icon="filter" aria-expanded={open} onClick={() => setOpen(!open)}>
            {more === 0 ? "Filters" : `Filters (${more})`}
          </Button>
        )}
        {(!narrow.value || open) && (
          <>
            <Select label="Type" hideLabel class="filter-choice" value={filter.type ?? ""} onChange={(type) => setQuery({ type })} options={choices("All types", depth?.map((one) => one.type), filter.type)} />
            <Select label="Queue" hideLabel class="filter-choice" value={filter.queue ?? ""} onChange={(queue) => setQuery({ queue })} options={choices("All queues", depth?.map((one) => one.queue), filter.queue)} />
            <Input label="Tag" hideLabel class="filter-tag" placeholder="Tag" value={tag} onChange={setTag} />
            <TimeRange filter={filter} />
          </>
        )}
      </div>
    </search>
  );
}

function choices(all: string, names: string[] | undefined, current: string | undefined): Option[] {
  const known = new Set(names);
  if (current) known.add(current);
  return [{ value: "", label: all }, ...[...known].sort().map((value) => ({ value, label: value }))];
}

/** Links, so that each view can be opened beside this one. */
function StatusTabs({ filter, depth }: { filter: JobFilter; depth: DepthRow[] | null }) {
  const counts = countsOf(filter, depth);
  return (
    <nav class="status-tabs" aria-label="Status">
      {[undefined, ...STATUSES].map((status) => (
        <a key={status ?? ""} href={href("/jobs", { ...filter, status })} aria-current={filter.status === status ? "true" : undefined}>
          {status === undefined ? "All" : capital(words(status))}
          {counts !== null && (
            <span class={`status-count${status === "failed" && counts.failed > 0 ? " tone-bad" : ""}`} title={count(counts[status ?? "all"])}>
              {shortCount(counts[status ?? "all"])}
            </span>
          )}
        </a>
      ))}
    </nav>
  );
}

function TimeRange({ filter }: { filter: JobFilter }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Menu
        label="When the jobs were added"
        text={rangeText(filter, now.value)}
        icon="down"
        items={[
          ...RANGES.map(([label, seconds]) => ({
            label,
            run: () => setQuery({ since: sinceAgo(serverNow(), seconds), until: null }),
          })),
          { label: "Between two times…", run: () => setOpen(true) },
          { label: "Any time", disabled: !filter.since && !filter.until, run: () => setQuery({ since: null, until: null }) },
        ]}
      />
      <RangeDialog open={open} filter={filter} onClose={() => setOpen(false)} />
    </>
  );
}

function rangeText(filter: JobFilter, at: number): string {
  const since = filter.since && `since ${spoken(filter.since, at)}`;
  const until = filter.until && `until ${spoken(filter.until, at)}`;
  return capital([since, until].filter(Boolean).join(", ") || "any time");
}

/** A time of the address, which somebody may have mistyped. */
function spoken(time: string, at: number): string {
  const moment = Date.parse(time);
  return Number.isNaN(moment) ? time : relative(moment, at);
}

function RangeDialog({ open, filter, onClose }: { open: boolean; filter: JobFilter; onClose: () => void }) {
  const [since, setSince] = useState("");
  const [until, setUntil] = useState("");
  useEffect(() => {
    if (!open) return;
    setSince(toLocal(filter.since));
    setUntil(toLocal(filter.until));
  }, [open]);
  const wrong = since !== "" && until !== "" && since >= until ? "It must be after the first." : null;
  return (
    <Dialog
      open={open}
      onClose={onClose}
      title="Jobs added between"
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button
            kind="primary"
            disabled={wrong !== null}
            onClick={() => {
              setQuery({ since: fromLocal(since), until: fromLocal(until) });
              onClose();
            }}
          >
            Show
          </Button>
        </>
      }
    >
      <div class="form-grid">
        <Input label="From" type="datetime-local" value={since} onChange={setSince} hint="Empty: from the first." />
        <Input label="Before" type="datetime-local" value={until} onChange={setUntil} hint="Empty: up to now." error={wrong} />
      </div>
      <p class="muted small">Times are local: {absolute(serverNow())} now.</p>
    </Dialog>
  );
}

/** What is typed, at once; told on when the typing pauses, or when it is emptied. */
function useTyped(value: string, tell: (value: string) => void): [string, (text: string) => void] {
  const [text, setText] = useState(value);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => {
    if (timer.current === null) setText(value);
  }, [value]);
  useEffect(() => () => stop(), []);
  function stop(): void {
    if (timer.current !== null) clearTimeout(timer.current);
    timer.current = null;
  }
  function change(typed: string): void {
    setText(typed);
    stop();
    timer.current = setTimeout(
      () => {
        timer.current = null;
        tell(typed.trim());
      },
      typed === "" ? 0 : TYPING_MS,
    );
  }
  return [text, change];
}
