// Start, stop and delete an instance; each says before what it costs or loses.

import { useState } from "preact/hooks";
import { attempt, del, post } from "../api.ts";
import { Button } from "../components/button.tsx";
import { confirm } from "../components/confirm.tsx";
import { usd } from "../format.ts";
import { can } from "../session.ts";
import type { InstanceView } from "../types.ts";
import { allowed } from "./steps.ts";

export function InstanceActions({ instance, small }: { instance: InstanceView; small?: boolean }) {
  const [busy, setBusy] = useState<"start" | "stop" | "delete" | null>(null);
  if (!can("operator")) return null;
  const may = allowed(instance);
  const path = `/api/instances/${encodeURIComponent(instance.id)}`;
  const price = instance.hourlyPrice === null ? "at the provider's price" : `${usd(instance.hourlyPrice)} an hour`;
  const sofar = instance.cost === null ? "" : ` It has cost ${usd(instance.cost)} so far.`;

  async function ask(kind: "start" | "stop" | "delete"): Promise<void> {
    const questions = {
      start: { title: `Start ${instance.name}?`, text: `It is billed from then on, ${price}.`, action: "Start it" },
      stop: {
        title: `Stop ${instance.name}?`,
        text: `What runs on it ends. Its disk is kept, for which the provider may charge, and it can be started again if a GPU is free then.${sofar}`,
        action: "Stop it",
        danger: true,
      },
      delete: {
        title: `Delete ${instance.name}?`,
        text: `What runs on it ends and everything on its disk is lost for good. It is no longer billed.${sofar}`,
        action: "Delete it",
        danger: true,
      },
    };
    if (!(await confirm(questions[kind]))) return;
    setBusy(kind);
    const told = { start: "It is being started.", stop: "It is being stopped.", delete: "It is being deleted." };
    await attempt(() => (kind === "delete" ? del(path) : post(`${path}/${kind}`)), told[kind]);
    setBusy(null);
  }

  const labels = { start: "Start", stop: "Stop", delete: "Delete" } as const;
  const icons = { start: "play", stop: "stop", delete: "trash" } as const;
  return (
    <>
      {(["start", "stop", "delete"] as const)
        .filter((kind) => may[kind])
        .map((kind) => (
          <Button
            key={kind}
            small={small}
            kind={small ? "quiet" : kind === "start" ? "primary" : kind === "delete" ? "danger" : "plain"}
            icon={icons[kind]}
            label={small ? `${labels[kind]} ${instance.name}` : undefined}
            busy={busy === kind}
            disabled={busy !== null}
            onClick={() => void ask(kind)}
          >
            {small ? undefined : labels[kind]}
          </Button>
        ))}
    </>
  );
}
