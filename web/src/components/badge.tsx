import type { ComponentChildren } from "preact";
import { words } from "../format.ts";
import type { DeliveryStatus, InstanceStatus, Status } from "../types.ts";

export type Tone = "neutral" | "accent" | "good" | "bad" | "warn" | "busy" | "off";

/** Colour is never alone: the word says the same. */
export function Badge({ tone = "neutral", children, title }: { tone?: Tone; children: ComponentChildren; title?: string }) {
  return (
    <span class={`badge tone-${tone}`} title={title}>
      {children}
    </span>
  );
}

type AnyStatus = Status | "scheduled" | "ready" | InstanceStatus | DeliveryStatus;

const TONES: Record<AnyStatus, Tone> = {
  pending: "accent",
  scheduled: "neutral",
  ready: "good",
  processing: "busy",
  completed: "good",
  failed: "bad",
  cancelled: "off",
  creating: "busy",
  starting: "busy",
  running: "busy",
  health_checking: "busy",
  stopping: "busy",
  stopped: "off",
  terminated: "off",
  delivered: "good",
  expired: "bad",
  disabled: "off",
  refused: "bad",
};

/** The status of a job, an instance or a delivery. A pending job whose time has not come is "scheduled". */
export function StatusBadge({ status, scheduled }: { status: AnyStatus; scheduled?: boolean }) {
  const shown = status === "pending" && scheduled ? "scheduled" : status;
  return (
    <Badge tone={TONES[shown]}>
      <span class="dot" aria-hidden="true" />
      {words(shown)}
    </Badge>
  );
}
