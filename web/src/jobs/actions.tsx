// What can be done to one job, by its status and the role of who looks at it.

import { useState } from "preact/hooks";
import { attempt, del, post } from "../api.ts";
import { Button } from "../components/button.tsx";
import { confirm } from "../components/confirm.tsx";
import { go } from "../router.ts";
import { can } from "../session.ts";
import type { JobDetail } from "../types.ts";
import { RetryDialog } from "./retry-dialog.tsx";

export function JobActions({ detail }: { detail: JobDetail }) {
  const { job } = detail;
  const [busy, setBusy] = useState(false);
  const [editing, setEditing] = useState(false);
  const path = `/api/jobs/${encodeURIComponent(job.id)}`;
  const final = !["pending", "processing"].includes(job.status);
  if (!can("operator")) return null;

  async function run(work: () => Promise<unknown>, done: string): Promise<boolean> {
    setBusy(true);
    const worked = await attempt(work, done);
    setBusy(false);
    return worked;
  }

  async function cancel(): Promise<void> {
    const running = job.status === "processing";
    const yes = await confirm({
      title: "Cancel this job?",
      text: running ? "It is running: its handler is asked to stop, and what it has done so far is not undone." : "It will not run. It can be retried later.",
      action: "Cancel the job",
      danger: true,
    });
    if (yes) await run(() => post(`${path}/cancel`), running ? "The handler is asked to stop." : "The job is cancelled.");
  }

  async function retry(): Promise<void> {
    const yes =
      job.status !== "completed" ||
      (await confirm({ title: "Run it again?", text: "This job has completed. What it did is done a second time.", action: "Run again" }));
    if (yes) await run(() => post(`${path}/retry`), "The job will run again.");
  }

  async function remove(): Promise<void> {
    const yes = await confirm({
      title: "Delete this job?",
      text: "The job, its result, its steps and the record of its attempts are gone for good.",
      action: "Delete the job",
      danger: true,
    });
    if (yes && (await run(() => del(path), "The job is deleted."))) go("/jobs");
  }

  return (
    <>
      {final ? (
        <>
          <Button kind={job.status === "failed" ? "primary" : "plain"} icon="retry" busy={busy} onClick={() => void retry()}>
            {job.status === "completed" ? "Run again" : "Retry"}
          </Button>
          <Button disabled={busy} aria-haspopup="dialog" onClick={() => setEditing(true)}>
            Edit payload and retry…
          </Button>
          <Button kind="danger" icon="trash" disabled={busy} onClick={() => void remove()}>
            Delete
          </Button>
        </>
      ) : (
        <Button kind="danger" icon="cancel" busy={busy} disabled={job.cancelled} onClick={() => void cancel()}>
          {job.cancelled ? "Cancelling" : "Cancel"}
        </Button>
      )}
      <RetryDialog detail={detail} open={editing} onClose={() => setEditing(false)} />
    </>
  );
}
