import { now } from "../clock.ts";
import { Icon } from "../components/icons.tsx";
import { duration } from "../format.ts";
import type { InstanceView } from "../types.ts";
import { stepsOf, type Step } from "./steps.ts";

const SAID = { done: "done", current: "in progress", todo: "to come", failed: "failed" } as const;

/** From creating to ready; what it is at moves, how long each took is below. */
export function Stepper({ instance }: { instance: InstanceView }) {
  const steps = stepsOf(instance);
  return (
    <ol class="stepper" aria-label="On its way to ready">
      {steps.map((step, index) => (
        <li key={step.status} class={`step step-${step.state}`} aria-current={step.state === "current" ? "step" : undefined}>
          <span class="step-mark" aria-hidden="true">
            {step.state === "done" ? <Icon name="check" size={14} /> : step.state === "failed" ? <Icon name="close" size={14} /> : index + 1}
          </span>
          <span class="step-title">
            {step.title}
            <span class="visually-hidden">, {SAID[step.state]}</span>
          </span>
          <span class="step-text">{textOf(step, steps[index + 1])}</span>
        </li>
      ))}
    </ol>
  );
}

function textOf(step: Step, next: Step | undefined): string {
  if (step.state === "current") {
    const since = step.at === null ? "" : ` ${duration(Math.max(0, Math.round((now.value - Date.parse(step.at)) / 1000)))} so far.`;
    return step.text + since;
  }
  if (step.state === "done" && step.at !== null && next?.at) {
    const seconds = (Date.parse(next.at) - Date.parse(step.at)) / 1000;
    return seconds >= 0 ? `took ${duration(seconds)}` : "";
  }
  return step.state === "todo" || step.state === "failed" || step.status === "ready" ? step.text : "";
}
