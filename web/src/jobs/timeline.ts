// Attempts as segments on one scale. Pure: the moment is an argument.

import type { Attempt } from "../types.ts";

export interface Segment {
  kind: "wait" | "run";
  /** Fractions of the whole, 0 to 1. */
  start: number;
  width: number;
  /** In seconds. */
  seconds: number;
  /** It still goes on. */
  open: boolean;
}

export interface Lane {
  attempt: Attempt;
  segments: Segment[];
}

export interface Timeline {
  /** Seconds of the whole, from the first wait to the end of the last attempt. */
  span: number;
  lanes: Lane[];
  /** Where the scale is labelled: seconds since the start. */
  ticks: { at: number; seconds: number }[];
}

/** *now* in milliseconds ends what still goes on. */
export function timelineOf(attempts: readonly Attempt[], now: number): Timeline {
  const times = attempts.map((attempt) => {
    // The moments are by several clocks of one system: none may lie before the one it follows.
    const ready = Date.parse(attempt.readyAt);
    const started = attempt.startedAt === null ? null : Math.max(ready, Date.parse(attempt.startedAt));
    const ended = attempt.endedAt === null ? null : Math.max(started ?? ready, Date.parse(attempt.endedAt));
    const end = ended ?? Math.max(now, started ?? ready);
    return { attempt, ready, started, ended, end };
  });
  const first = Math.min(...times.map((one) => one.ready));
  const span = times.length === 0 ? 0 : (Math.max(...times.map((one) => one.end)) - first) / 1000;

  function segment(kind: Segment["kind"], from: number, to: number, open: boolean): Segment {
    const seconds = Math.max(0, to - from) / 1000;
    const start = span === 0 ? 0 : (from - first) / 1000 / span;
    return { kind, start, width: span === 0 ? 0 : seconds / span, seconds, open };
  }

  const lanes = times.map(({ attempt, ready, started, ended, end }) => {
    const segments: Segment[] = [];
    // An attempt that is only to come ends nowhere: it waits until now, or not yet.
    if (started === null) segments.push(segment("wait", ready, end, ended === null));
    else {
      if (started > ready) segments.push(segment("wait", ready, started, false));
      segments.push(segment("run", started, end, ended === null));
    }
    return { attempt, segments };
  });
  return { span, lanes, ticks: ticksOf(span) };
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
const MOST_TICKS = 5;

/** Round moments, at most five beside the start. */
export function ticksOf(span: number): Timeline["ticks"] {
  if (span <= 0) return [{ at: 0, seconds: 0 }];
  const step = stepFor(span / MOST_TICKS);
  const ticks = [];
  for (let n = 0; n * step <= span * 1.0001; n += 1) ticks.push({ at: Math.min(1, (n * step) / span), seconds: n * step });
  return ticks;
}

function stepFor(least: number): number {
  if (least > 86_400) return Math.ceil(least / 86_400) * 86_400;
  const found = STEPS.find((step) => step >= least);
  if (least > 0.5 && found !== undefined) return found;
  const unit = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * unit).find((step) => step >= least * 0.9999)!;
}

/** The wait and the run of an attempt in seconds; null: there is none (yet). */
export function spent(lane: Lane): { wait: number | null; run: number | null } {
  const of = (kind: Segment["kind"]) => lane.segments.find((one) => one.kind === kind)?.seconds ?? null;
  return { wait: of("wait") ?? (of("run") === null ? null : 0), run: of("run") };
}
