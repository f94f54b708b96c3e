import assert from "node:assert/strict";
import { test } from "node:test";
import { withNewest, withOlder } from "../src/merge.ts";

const page = (ids: number[], more: boolean) => ({ items: ids.map((id) => ({ id })), more });
const ids = (held: { items: readonly { id: number }[] }) => held.items.map((item) => item.id);

test("the newest page moves over what was loaded before", () => {
  const held = withNewest(page([5, 4, 3, 2, 1], false), page([7, 6, 5], true));
  assert.deepEqual(ids(held), [7, 6, 5, 4, 3, 2, 1]);
  assert.equal(held.more, false);
});

test("nothing is shown as complete when entries were missed", () => {
  const held = withNewest(page([5, 4, 3], true), page([90, 89, 88], true));
  assert.deepEqual(ids(held), [90, 89, 88]);
  assert.equal(held.more, true);
});

test("older pages are added behind, each entry once", () => {
  const held = withOlder(page([7, 6, 5], true), page([5, 4, 3], false));
  assert.deepEqual(ids(held), [7, 6, 5, 4, 3]);
  assert.equal(held.more, false);
});
