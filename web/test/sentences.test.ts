import assert from "node:assert/strict";
import { test } from "node:test";
import { capacitySentences, seriesSentence } from "../src/sentences.ts";
import type { Capacity } from "../src/types.ts";

const calm: Capacity = {
  slots: 32,
  busy: 2,
  serviceRate: 7,
  arrivalRate: 0.4,
  utilisation: 0.06,
  slotsNeeded: 2,
  timeToDrain: 177,
  backlog: 1240,
};

test("how busy, how long, how many are needed", () => {
  assert.deepEqual(capacitySentences(calm), [
    "2 of 32 slots busy (6.3 %).",
    "At this pace the backlog of 1,240 drains in 3 min.",
    "What arrives needs 2 slots.",
  ]);
});

test("a backlog that grows is said to grow for ever", () => {
  const [, never, more] = capacitySentences({ ...calm, arrivalRate: 9, slotsNeeded: 41, timeToDrain: null });
  assert.equal(never, "At this pace the backlog of 1,240 never drains: 9/s arrive, 7/s finish.");
  assert.equal(more, "What arrives needs 41 slots: 9 more than there are.");
});

test("without workers nothing else is said", () => {
  assert.deepEqual(capacitySentences({ ...calm, slots: 0, busy: 0, backlog: 1 }), ["No worker is running: nothing is processed.", "1 job waits."]);
});

test("an idle service has no backlog", () => {
  assert.deepEqual(capacitySentences({ ...calm, busy: 0, backlog: 0, arrivalRate: 0, slotsNeeded: 0, timeToDrain: 0 }), [
    "0 of 32 slots busy (0 %).",
    "No job waits.",
  ]);
});

test("a series in words", () => {
  const words = (value: number) => `${value}/s`;
  assert.equal(seriesSentence("finished", [1, null, 4, 3], words), "finished: now 3/s, between 1/s and 4/s, none for 1 point.");
  assert.equal(seriesSentence("finished", [null], words), "finished: no values.");
});
