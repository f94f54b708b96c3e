import assert from "node:assert/strict";
import { test } from "node:test";
import { shortcutOf } from "../src/keys.ts";

test("g and a letter lead to a page, a letter alone does not", () => {
  assert.deepEqual(shortcutOf("g", ""), { kind: "prefix" });
  assert.deepEqual(shortcutOf("j", "g"), { kind: "go", key: "j" });
  assert.equal(shortcutOf("j", ""), null);
  assert.deepEqual(shortcutOf("g", "g"), { kind: "prefix" });
});

test("help, search and times", () => {
  assert.deepEqual(shortcutOf("?", ""), { kind: "help" });
  assert.deepEqual(shortcutOf("/", "g"), { kind: "search" });
  assert.deepEqual(shortcutOf("t", ""), { kind: "times" });
});
