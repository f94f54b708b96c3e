import assert from "node:assert/strict";
import { test } from "node:test";
import { windowOf } from "../src/window.ts";

test("only rows in sight, and a few around them, are drawn", () => {
  const { start, end, before, after } = windowOf(50_000 * 40, 600, 40, 100_000);
  assert.deepEqual([start, end], [49_992, 50_024]);
  assert.equal(before, start * 40);
  assert.equal(after, (100_000 - end) * 40);
});

test("the list has the same height wherever it is scrolled to", () => {
  for (const top of [-30, 0, 1, 39, 40, 12_345, 4_000_000, 9_000_000]) {
    const { start, end, before, after } = windowOf(top, 600, 40, 100_000);
    assert.equal(before + (end - start) * 40 + after, 4_000_000);
    assert.ok(start >= 0 && end <= 100_000 && start <= end);
  }
});

test("a short list is drawn whole, an empty one not at all", () => {
  assert.deepEqual(windowOf(0, 600, 40, 3), { start: 0, end: 3, before: 0, after: 0 });
  assert.deepEqual(windowOf(0, 600, 40, 0), { start: 0, end: 0, before: 0, after: 0 });
});
