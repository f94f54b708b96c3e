import assert from "node:assert/strict";
import { test } from "node:test";
import { spent, ticksOf, timelineOf } from "../src/jobs/timeline.ts";
import type { Attempt } from "../src/types.ts";

const at = (seconds: number) => new Date(seconds * 1000).toISOString();

function attempt(number: number, ready: number, started: number | null, ended: number | null): Attempt {
  return {
    number,
    readyAt: at(ready),
    startedAt: started === null ? null : at(started),
    endedAt: ended === null ? null : at(ended),
    outcome: ended === null ? "running" : "error",
    message: null,
    traceback: "",
  };
}

test("waits and runs are to one scale from the first wait to the last end", () => {
  const { span, lanes } = timelineOf([attempt(1, 0, 10, 20), attempt(2, 50, 60, 100)], 0);
  assert.equal(span, 100);
  assert.deepEqual(
    lanes.map((lane) => lane.segments.map(({ kind, start, width }) => [kind, start, width])),
    [
      [["wait", 0, 0.1], ["run", 0.1, 0.1]],
      [["wait", 0.5, 0.1], ["run", 0.6, 0.4]],
    ],
  );
  assert.deepEqual(spent(lanes[1]!), { wait: 10, run: 40 });
});

test("what goes on ends now", () => {
  const { span, lanes } = timelineOf([attempt(1, 0, 10, null)], 40_000);
  assert.equal(span, 40);
  assert.deepEqual(lanes[0]!.segments[1], { kind: "run", start: 0.25, width: 0.75, seconds: 30, open: true });

  const waiting = timelineOf([attempt(1, 0, null, null)], 5_000).lanes[0]!;
  assert.deepEqual(spent(waiting), { wait: 5, run: null });
  assert.ok(waiting.segments[0]!.open);
});

test("an attempt whose time has not come, clocks that differ, and nothing at all", () => {
  const later = timelineOf([attempt(1, 0, 1, 2), attempt(2, 100, null, null)], 50_000);
  assert.equal(later.span, 100);
  assert.equal(later.lanes[1]!.segments[0]!.width, 0);

  const odd = timelineOf([attempt(1, 10, 9, 8)], 0);
  for (const { segments } of odd.lanes) for (const { start, width } of segments) assert.ok(start >= 0 && width >= 0);
  assert.deepEqual(timelineOf([], 0), { span: 0, lanes: [], ticks: [{ at: 0, seconds: 0 }] });
});

test("the scale has round moments, few of them, within the span", () => {
  for (const span of [0.0004, 0.07, 0.9, 3, 47, 100, 4_000, 90_000, 3_000_000]) {
    const ticks = ticksOf(span);
    assert.ok(ticks.length >= 2 && ticks.length <= 6, `${span}: ${ticks.length}`);
    assert.ok(ticks.every((tick) => tick.at >= 0 && tick.at <= 1));
  }
  assert.deepEqual(ticksOf(47).map((tick) => tick.seconds), [0, 10, 20, 30, 40]);
});
