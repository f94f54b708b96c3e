// Every attempt drawn to one scale: how long it waited, how long it ran, how it ended.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { now } from "../clock.ts";
import { Button } from "../components/button.tsx";
import { CopyButton } from "../components/copy.tsx";
import { Time } from "../components/time.tsx";
import { duration, plural } from "../format.ts";
import type { Attempt } from "../types.ts";
import { spent, timelineOf, type Lane, type Segment } from "./timeline.ts";

const ENDED: Record<Attempt["outcome"], string> = {
  running: "running",
  completed: "completed",
  cancelled: "cancelled",
  error: "failed",
  timeout: "ran out of time",
  crash: "its process died",
};

// Of a job that is tried for days, the latest are shown, and all for who asks.
const LANES_MOST = 20;
const ERRORS_MOST = 5;

function useLatest(all: Attempt[], most: number): [Attempt[], ComponentChildren] {
  const [whole, setWhole] = useState(false);
  const earlier = all.length - most;
  if (whole || earlier <= 0) return [all, null];
  return [
    all.slice(-most),
    <Button small onClick={() => setWhole(true)}>
      {`Show ${plural(earlier, "earlier one")}`}
    </Button>,
  ];
}

export function Attempts({ attempts: all }: { attempts: Attempt[] }) {
  const [attempts, more] = useLatest(all, LANES_MOST);
  const open = attempts.some((attempt) => attempt.endedAt === null);
  const { span, lanes, ticks } = timelineOf(attempts, open ? now.value : 0);
  return (
    <div class="timeline">
      {more && <div>{more}</div>}
      <ol class="lanes">
        {lanes.map((lane) => (
          <LaneRow key={lane.attempt.number} lane={lane} />
        ))}
      </ol>
      {span > 0 && (
        <div class="lane lane-scale" aria-hidden="true">
          <div class="lane-track">
            {ticks.map((tick, index) => (
              <span key={tick.seconds} class={classOf(tick.at, index, ticks.length)} style={{ left: `${tick.at * 100}%` }}>
                {duration(tick.seconds)}
              </span>
            ))}
          </div>
        </div>
      )}
      <ul class="legend" aria-label="Legend">
        {(["wait", "running", "completed", "error", "timeout", "crash", "cancelled"] as const)
          .filter((kind) => kind === "wait" || lanes.some((lane) => lane.attempt.outcome === kind && lane.attempt.startedAt !== null))
          .map((kind) => (
            <li key={kind}>
              <span class={`swatch segment-${kind}`} aria-hidden="true" />
              {kind === "wait" ? "waited" : ENDED[kind]}
            </li>
          ))}
      </ul>
    </div>
  );
}

/** The last one is written to the left of its line, and so is the one before it for phones to leave out. */
function classOf(at: number, index: number, ticks: number): string {
  if (at > 0.85) return "tick tick-end";
  return index === ticks - 2 ? "tick tick-wide" : "tick";
}

function LaneRow({ lane }: { lane: Lane }) {
  const { attempt, segments } = lane;
  const told = inWords(lane);
  return (
    <li class="lane">
      <div class="lane-name">
        <span class="strong">Attempt {attempt.number}</span>
        <span class="muted small">
          <Time at={attempt.startedAt ?? attempt.readyAt} />
        </span>
      </div>
      <div class="lane-track" role="img" aria-label={`Attempt ${attempt.number}: ${told}`}>
        {segments.map((segment) => (
          <span
            key={segment.kind}
            class={`segment segment-${segment.kind === "wait" ? "wait" : attempt.outcome}`}
            style={{ left: `${segment.start * 100}%`, width: `${segment.width * 100}%` }}
            title={titleOf(segment, attempt)}
          />
        ))}
      </div>
      <p class="lane-text">{told}</p>
    </li>
  );
}

function inWords(lane: Lane): string {
  const { wait, run } = spent(lane);
  const { attempt } = lane;
  if (run === null) return wait === null || wait === 0 ? "has not begun" : attempt.endedAt === null ? `has waited ${duration(whole(wait))}` : `waited ${duration(wait)}, ${ENDED[attempt.outcome]} before it began`;
  const waited = wait === null || wait === 0 ? "" : `waited ${duration(wait)}, `;
  if (attempt.endedAt === null) return `${waited}has run ${duration(whole(run))}`;
  return `${waited}ran ${duration(run)}, ${ENDED[attempt.outcome]}`;
}

/** What grows each second is shown in whole ones. */
function whole(seconds: number): number {
  return Math.round(seconds);
}

function titleOf(segment: Segment, attempt: Attempt): string {
  const text = duration(segment.seconds);
  if (segment.kind === "wait") return segment.open ? `waits: ${text}` : `waited ${text}`;
  return segment.open ? `runs: ${text}` : `ran ${text}, ${ENDED[attempt.outcome]}`;
}

export function hasFailed(attempt: Attempt): boolean {
  return attempt.outcome === "error" || attempt.outcome === "timeout" || attempt.outcome === "crash";
}

/** The errors of attempts, the last on top and open. */
export function AttemptErrors({ attempts }: { attempts: Attempt[] }) {
  const [latest, more] = useLatest(attempts.filter(hasFailed), ERRORS_MOST);
  const failed = [...latest].reverse();
  return (
    <div class="errors">
      {failed.map((attempt, index) => (
        <details key={attempt.number} class="error-entry" open={index === 0}>
          <summary>
            <span class="strong">Attempt {attempt.number}</span>
            <span class="muted">{ENDED[attempt.outcome]}</span>
            <span class="error-message wrap">{attempt.message}</span>
          </summary>
          {attempt.traceback === "" ? (
            <p class="muted">{attempt.outcome === "crash" ? "A process that dies leaves no traceback." : "No traceback was kept."}</p>
          ) : (
            <>
              <div class="code-head">
                <span class="muted small">Traceback</span>
                <CopyButton text={attempt.traceback} label="Copy the traceback">
                  Copy
                </CopyButton>
              </div>
              <pre class="code traceback" tabIndex={0} role="region" aria-label={`Traceback of attempt ${attempt.number}`}>
                {attempt.traceback}
              </pre>
            </>
          )}
        </details>
      ))}
      {more && <div>{more}</div>}
    </div>
  );
}
