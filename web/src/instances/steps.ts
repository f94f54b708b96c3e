// How far an instance is on its way to ready. Pure.

import type { InstanceStatus, InstanceView } from "../types.ts";

export type StepState = "done" | "current" | "todo" | "failed";

export interface Step {
  status: InstanceStatus;
  title: string;
  /** What happens in it, in a few words. */
  text: string;
  state: StepState;
  /** When it began. */
  at: string | null;
}

const WAY: { status: InstanceStatus; title: string; text: string }[] = [
  { status: "creating", title: "Creating", text: "The cheapest GPU is looked for and rented." },
  { status: "starting", title: "Starting", text: "The provider loads the image." },
  { status: "running", title: "Running", text: "It runs; its ports are being learnt." },
  { status: "health_checking", title: "Health check", text: "Each port is asked until it answers." },
  { status: "ready", title: "Ready", text: "Every port answers." },
];

type Told = Pick<
  InstanceView,
  "status" | "createdAt" | "startedAt" | "runningAt" | "readyAt" | "failedAt" | "healthCheck" | "novitaInstanceId"
>;

/** The five steps. One that failed did so in the step after the last that was reached. */
export function stepsOf(instance: Told): Step[] {
  const at: (string | null)[] = [
    instance.createdAt,
    instance.startedAt,
    instance.runningAt,
    instance.healthCheck?.startedAt ?? null,
    instance.readyAt,
  ];
  const failed = instance.status === "failed";
  const over = failed || ["stopping", "stopped", "terminated"].includes(instance.status);
  const reached = over ? lastReached(at) : WAY.findIndex((step) => step.status === instance.status);
  return WAY.map((step, index) => ({
    ...step,
    at: index <= reached ? at[index]! : null,
    state: stateOf(index, reached, failed, over || instance.status === "ready"),
  }));
}

function lastReached(at: (string | null)[]): number {
  return at.findLastIndex((time) => time !== null);
}

function stateOf(index: number, reached: number, failed: boolean, ended: boolean): StepState {
  if (index > reached) return "todo";
  if (index < reached) return "done";
  if (failed) return "failed";
  return ended ? "done" : "current";
}

/** What may be asked of an instance. */
export function allowed(instance: Pick<InstanceView, "status" | "operation" | "novitaInstanceId">): {
  start: boolean;
  stop: boolean;
  delete: boolean;
} {
  const { status } = instance;
  return {
    start: status === "stopped" || (status === "failed" && instance.novitaInstanceId !== null),
    stop: status === "ready",
    delete: status !== "terminated" && instance.operation !== "delete",
  };
}

/** Whether something is still being done to it. */
export function isMoving(status: InstanceStatus): boolean {
  return ["creating", "starting", "running", "health_checking", "stopping"].includes(status);
}
