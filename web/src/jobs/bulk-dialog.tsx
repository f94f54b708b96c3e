// Retry, cancel or delete all jobs of the filter: first how many, then batch after batch.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, post } from "../api.ts";
import { Bar } from "../components/bar.tsx";
import { Button } from "../components/button.tsx";
import { Dialog } from "../components/dialog.tsx";
import { Fact, Facts } from "../components/facts.tsx";
import { Input } from "../components/field.tsx";
import { ProblemBox, Skeleton } from "../components/states.tsx";
import { absolute, count, plural } from "../format.ts";
import { toast } from "../toasts.ts";
import type { BulkAction, BulkBatch, BulkPreview, JobFilter, Problem } from "../types.ts";
import { NOTHING_DONE, runBulk, sentence, summary, type BulkRequest, type Ending, type Progress } from "./bulk.ts";
import { isEmpty, spelled } from "./filter.ts";

const PATH = "/api/jobs/bulk";

const MEANS: Record<BulkAction, string> = {
  retry: "Each runs again from its next attempt, with its own payload, and gets as many attempts as it had at first. Completed jobs are only run again when the filter says completed.",
  cancel: "Those that wait will not run. Those that run are asked to stop; a handler may take a moment.",
  delete: "They, their results and their steps are gone for good. Nothing brings them back.",
};
const TITLES: Record<BulkAction, string> = { retry: "Retry jobs", cancel: "Cancel jobs", delete: "Delete jobs" };
const VERBS: Record<BulkAction, string> = { retry: "Retry", cancel: "Cancel", delete: "Delete" };

export interface Asked {
  action: BulkAction;
  filter: JobFilter;
}

export function BulkDialog({ asked, onClose, onChanged }: { asked: Asked | null; onClose: () => void; onChanged: () => void }) {
  // Closing it stops the run: nothing goes on that nobody sees.
  const stop = useRef(false);
  function close(): void {
    stop.current = true;
    onClose();
  }
  return (
    <Dialog open={asked !== null} onClose={close} title={asked ? TITLES[asked.action] : ""}>
      {asked && <Bulk asked={asked} stop={stop} onClose={close} onChanged={onChanged} />}
    </Dialog>
  );
}

type Stage = "asking" | "preview" | "running" | "ended";

function Bulk({ asked, stop, onClose, onChanged }: { asked: Asked; stop: { current: boolean }; onClose: () => void; onChanged: () => void }) {
  const { action, filter } = asked;
  const [stage, setStage] = useState<Stage>("asking");
  const [preview, setPreview] = useState<BulkPreview | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [progress, setProgress] = useState<Progress>(NOTHING_DONE);
  const [ending, setEnding] = useState<Ending | null>(null);
  const [stopping, setStopping] = useState(false);
  const [typed, setTyped] = useState("");
  const gone = useRef(false);

  async function ask(): Promise<void> {
    setStage("asking");
    setProblem(null);
    try {
      const answer = await post<BulkPreview>(PATH, { action, filter, dryRun: true } satisfies BulkRequest);
      if (gone.current) return;
      setPreview(answer);
      setStage("preview");
    } catch (error) {
      if (!gone.current) setProblem(asProblem(error));
    }
  }
  useEffect(() => {
    void ask();
    return () => {
      gone.current = true;
      stop.current = true; // the page was left under it
    };
  }, []);

  async function run(from: Progress): Promise<void> {
    stop.current = false;
    setStopping(false);
    setEnding(null);
    setStage("running");
    let reached = from;
    const end = await runBulk(
      { action, filter },
      (request) => post<BulkBatch>(PATH, request),
      (now) => setProgress((reached = now)),
      () => stop.current,
      from,
    );
    onChanged();
    if (gone.current) {
      toast("info", `${end.kind === "done" ? "Done" : "Stopped"}: ${summary(action, reached)}`);
      return;
    }
    setEnding(end);
    setStage("ended");
  }

  const confirmed = action !== "delete" || typed.trim().toLowerCase() === "delete";
  const nothing = preview !== null && preview.matching === 0;
  return (
    <div class="stack">
      {stage === "asking" && (problem === null ? <Skeleton lines={2} label="Counting the jobs that match" /> : <ProblemBox problem={problem} />)}
      {preview !== null && stage === "preview" && (
        <form
          class="stack"
          onSubmit={(event) => {
            event.preventDefault();
            if (confirmed && !nothing) void run(NOTHING_DONE);
          }}
        >
          <p class="bulk-sentence wrap">{nothing ? "No job matches that this could be done to." : `${sentence(action, preview, filter.type)}.`}</p>
          <Spelled filter={filter} />
          {!nothing && <p class="muted">{MEANS[action]}</p>}
          {action === "delete" && !nothing && (
            <Input label="Type delete to confirm" value={typed} onChange={setTyped} autoComplete="off" />
          )}
          <Foot>
            <Button onClick={onClose}>{nothing ? "Close" : "Keep as they are"}</Button>
            {!nothing && (
              <Button type="submit" kind={action === "retry" ? "primary" : "danger"} disabled={!confirmed}>
                {`${VERBS[action]} ${preview.exact ? plural(preview.matching, "job") : "all that match"}`}
              </Button>
            )}
          </Foot>
        </form>
      )}
      {stage === "asking" && problem !== null && (
        <Foot>
          <Button onClick={onClose}>Close</Button>
          <Button kind="primary" onClick={() => void ask()}>
            Try again
          </Button>
        </Foot>
      )}
      {preview !== null && (stage === "running" || stage === "ended") && (
        <>
          <Running action={action} preview={preview} progress={progress} ended={ending?.kind === "done"} />
          {stage === "ended" && ending !== null && <Ended action={action} progress={progress} ending={ending} />}
          <Foot>
            {stage === "running" ? (
              <Button
                kind="danger"
                busy={stopping}
                autoFocus
                onClick={(event) => {
                  if (event.detail > 1) return; // of a double click on what stood here before
                  stop.current = true;
                  setStopping(true);
                }}
              >
                {stopping ? "Stopping after this batch" : "Stop"}
              </Button>
            ) : (
              <>
                {ending?.kind !== "done" && <Button onClick={() => void run(progress)}>Go on</Button>}
                <Button kind="primary" autoFocus onClick={onClose}>
                  Close
                </Button>
              </>
            )}
          </Foot>
        </>
      )}
    </div>
  );
}

function Spelled({ filter }: { filter: JobFilter }) {
  if (isEmpty(filter)) return <p class="bulk-all">No filter is set: this means all jobs of all queues.</p>;
  return (
    <Facts tight>
      {spelled(filter, (time) => absolute(Date.parse(time))).map(([what, value]) => (
        <Fact key={what} name={what}>
          <strong>{value}</strong>
        </Fact>
      ))}
    </Facts>
  );
}

function Running({ action, preview, progress, ended }: { action: BulkAction; preview: BulkPreview; progress: Progress; ended: boolean }) {
  const visited = progress.changed + progress.refused;
  const fraction = ended ? 1 : preview.matching === 0 ? 0 : Math.min(0.99, visited / preview.matching);
  return (
    <div class="stack stack-tight">
      <Bar fraction={fraction} label={`${VERBS[action]} progress`} tone={ended ? "good" : "accent"} />
      <p>
        {count(visited)} of {preview.exact ? "" : "at least "}
        {plural(Math.max(preview.matching, visited), "job")}
      </p>
    </div>
  );
}

function Ended({ action, progress, ending }: { action: BulkAction; progress: Progress; ending: Ending }) {
  return (
    <div role="status" class="stack stack-tight">
      {ending.kind === "failed" && <ProblemBox problem={asProblem(ending.error)} />}
      <p class="strong">{ending.kind === "done" ? "Done." : ending.kind === "stopped" ? "Stopped." : "Not finished; what was done before holds."}</p>
      <p>{summary(action, progress)}</p>
    </div>
  );
}

function Foot({ children }: { children: ComponentChildren }) {
  return <div class="form-foot">{children}</div>;
}
