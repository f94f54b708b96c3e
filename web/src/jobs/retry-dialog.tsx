// Retry with another payload: edited as JSON; what is hidden stays hidden and keeps its value.

import { useEffect, useState } from "preact/hooks";
import { asProblem, post } from "../api.ts";
import { Button } from "../components/button.tsx";
import { Dialog } from "../components/dialog.tsx";
import { Icon } from "../components/icons.tsx";
import { JsonEditor } from "../components/json.tsx";
import { ProblemBox } from "../components/states.tsx";
import { listed, plural } from "../format.ts";
import { toast } from "../toasts.ts";
import type { JobDetail, Problem } from "../types.ts";
import { editOf, REDACTED, redactedPaths } from "./payload.ts";

export function RetryDialog({ detail, open, onClose }: { detail: JobDetail; open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="Retry with another payload" wide>
      {open && <Editor detail={detail} onClose={onClose} />}
    </Dialog>
  );
}

function Editor({ detail, onClose }: { detail: JobDetail; onClose: () => void }) {
  // As it was when the dialog opened: live news must not overwrite what is typed.
  const [original] = useState(detail.job.payload);
  const [text, setText] = useState(() => JSON.stringify(original, null, 2));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const edit = editOf(original, text);
  const hidden = redactedPaths(original);
  const steps = detail.steps.length;
  useEffect(() => setProblem(null), [text]);

  async function send(): Promise<void> {
    setBusy(true);
    try {
      await post(`/api/jobs/${encodeURIComponent(detail.job.id)}/retry`, { payload: edit.value });
      toast("done", "The job will run again with the new payload.");
      onClose();
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      setBusy(false);
    }
  }

  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (edit.error === null) void send();
      }}
    >
      <JsonEditor label="Payload (JSON)" value={text} onChange={setText} error={edit.error} rows={14} />
      {hidden.length > 0 && (
        <p class="note">
          <Icon name="info" />
          <span>
            {plural(hidden.length, "value is", "values are")} hidden: <code>{listed(hidden)}</code>. Where <code>{REDACTED}</code> is left, the job keeps
            its value; what you write instead replaces it.
            {edit.error === null && edit.lost.length > 0 && (
              <strong>
                {" "}
                Replaced or removed: <code>{listed(edit.lost)}</code>.
              </strong>
            )}
          </span>
        </p>
      )}
      {steps > 0 && (
        <p class="note">
          <Icon name="warning" />
          <span>The {plural(steps, "step")} it has done {steps === 1 ? "is" : "are"} forgotten, for they belong to the old payload: everything is done again.</span>
        </p>
      )}
      {problem && <ProblemBox problem={problem} />}
      <div class="form-foot">
        <Button onClick={() => setText(JSON.stringify(original, null, 2))} disabled={busy}>
          As it was
        </Button>
        <Button kind="primary" type="submit" busy={busy} disabled={edit.error !== null}>
          Retry with this payload
        </Button>
      </div>
    </form>
  );
}
