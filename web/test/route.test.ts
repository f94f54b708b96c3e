import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeQuery, href, match, parseHash } from "../src/route.ts";

test("an address becomes path and query", () => {
  assert.deepEqual(parseHash(""), { path: "/", query: {} });
  assert.deepEqual(parseHash("#/jobs?status=failed&type=a%20b"), {
    path: "/jobs",
    query: { status: "failed", type: "a b" },
  });
  assert.deepEqual(parseHash("#jobs/"), { path: "/jobs", query: {} });
});

test("one view has one address: sorted, nothing empty", () => {
  assert.equal(href("/jobs", { type: "x", status: "", queue: "a&b", tag: null }), "#/jobs?queue=a%26b&type=x");
  assert.equal(href("/"), "#/");
  assert.equal(encodeQuery({ text: "<img src=x>", limit: 5 }), "limit=5&text=%3Cimg+src%3Dx%3E");
});

test("what goes into an address comes out of it", () => {
  const query = { text: 'a=b&c #?/ "ü"', type: "<img src=x onerror=alert(1)>" };
  assert.deepEqual(parseHash(href("/jobs", query)), { path: "/jobs", query });
});

test("patterns name parameters and match whole paths only", () => {
  assert.deepEqual(match("/jobs/:id", "/jobs/0193%2F4"), { id: "0193/4" });
  assert.equal(match("/jobs/:id", "/jobs"), null);
  assert.equal(match("/jobs/:id", "/jobs/"), null);
  assert.equal(match("/jobs/:id", "/jobs/%"), null);
  assert.equal(match("/jobs", "/jobs/1"), null);
});
