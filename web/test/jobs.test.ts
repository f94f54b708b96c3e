import assert from "node:assert/strict";
import { test } from "node:test";
import { NOTHING_DONE, runBulk, sentence, summary, type BulkRequest, type Progress } from "../src/jobs/bulk.ts";
import { actionsFor, countsOf, filterOf, found, fromLocal, searchPath, sinceAgo, spelled, toLocal, topicOf } from "../src/jobs/filter.ts";
import { append, isAbove, merge } from "../src/jobs/merge.ts";
import { editOf, redactedPaths, roundedPaths } from "../src/jobs/payload.ts";
import type { BulkBatch, DepthRow } from "../src/types.ts";

const row = (n: number, note = "") => ({ id: `id-${String(n).padStart(6, "0")}`, createdAt: new Date(n * 10).toISOString(), note });
const rows = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, index) => row(from - index));
const numbers = (list: { id: string }[]) => list.map((one) => Number(one.id.slice(3)));

test("new rows come on top, loaded rows stay below, changed rows are replaced", () => {
  const head = [row(105), row(104), row(100, "changed"), row(99), row(98)];
  const merged = merge(rows(100, 1), head, false);
  assert.deepEqual(numbers(merged.rows), [105, 104, ...numbers(rows(100, 1))]);
  assert.equal(merged.rows[2]!.note, "changed");
  assert.deepEqual([merged.added, merged.gap], [2, false]);
});

test("a row that is no longer in the live page is gone, one below its reach stays", () => {
  const merged = merge(rows(10, 1), [row(10), row(8), row(7)], false);
  assert.deepEqual(numbers(merged.rows), [10, 8, 7, 6, 5, 4, 3, 2, 1]);
  assert.equal(merged.added, 0);
});

test("too much has come to know what is between: the rows stay as they are", () => {
  const before = rows(100, 1);
  const merged = merge(before, rows(305, 206), false);
  assert.ok(merged.gap);
  assert.deepEqual(merged.rows, before);
});

test("all rows of the first page have left it, and older ones have moved up: no gap", () => {
  const merged = merge(rows(100, 81), rows(80, 61), false);
  assert.ok(!merged.gap);
  assert.deepEqual(numbers(merged.rows), numbers(rows(80, 61)));
});

test("a page that is all there is replaces everything", () => {
  assert.deepEqual(merge(rows(100, 1), [row(3)], true).rows, [row(3)]);
  assert.deepEqual(merge(rows(100, 1), [], true).rows, []);
  assert.equal(merge([], rows(5, 1), false).added, 5);
});

test("within one millisecond the id decides", () => {
  const at = new Date(0).toISOString();
  assert.ok(isAbove({ id: "b", createdAt: at }, { id: "a", createdAt: at }));
  assert.ok(isAbove({ id: "a", createdAt: "2026-01-01T00:00:00.5Z" }, { id: "b", createdAt: "2026-01-01T00:00:00Z" }));
});

test("a page below brings no row twice", () => {
  assert.deepEqual(numbers(append(rows(10, 5), rows(6, 1))), numbers(rows(10, 1)));
});

async function run(batches: (BulkBatch | Error)[], stopAfter = Infinity, from?: Progress) {
  const sent: BulkRequest[] = [];
  const told: Progress[] = [];
  const ending = await runBulk(
    { action: "retry", filter: { status: "failed" } },
    async (request) => {
      sent.push(request);
      const batch = batches.shift()!;
      if (batch instanceof Error) throw batch;
      return batch;
    },
    (progress) => told.push(progress),
    () => sent.length >= stopAfter,
    from,
  );
  return { sent, told, ending };
}

test("batch after batch until no cursor comes, with sums", async () => {
  const { sent, told, ending } = await run([
    { changed: 990, refused: 10, nextCursor: "a" },
    { changed: 0, refused: 1000, nextCursor: "b" },
    { changed: 7, refused: 0 },
  ]);
  assert.deepEqual(sent.map((one) => one.after), [undefined, "a", "b"]);
  assert.deepEqual(told.at(-1), { changed: 997, refused: 1010, batches: 3, next: undefined });
  assert.equal(ending.kind, "done");
});

test("a stop comes between two batches, and it can go on from there", async () => {
  const { told, ending } = await run([{ changed: 5, refused: 0, nextCursor: "a" }], 1);
  assert.equal(ending.kind, "stopped");
  const rest = await run([{ changed: 3, refused: 0 }], Infinity, told.at(-1));
  assert.equal(rest.sent[0]!.after, "a");
  assert.equal(rest.told.at(-1)!.changed, 8);
});

test("an error ends it and keeps what was done", async () => {
  const { told, ending } = await run([{ changed: 5, refused: 0, nextCursor: "a" }, new Error("503")]);
  assert.equal(ending.kind, "failed");
  assert.equal(told.at(-1)!.changed, 5);
});

test("preview and summary in words", () => {
  assert.equal(
    sentence("retry", { matching: 1240, exact: true, statuses: ["failed", "cancelled"] }, "<b>"),
    "Retry 1,240 jobs that are failed or cancelled of type <b>",
  );
  assert.equal(sentence("delete", { matching: 1, exact: true, statuses: ["failed"] }), "Delete 1 job that is failed");
  assert.equal(sentence("cancel", { matching: 5000, exact: false, statuses: ["pending"] }), "Cancel at least 5,000 jobs that are pending");
  assert.equal(summary("delete", { ...NOTHING_DONE, changed: 3 }), "3 jobs deleted.");
  assert.match(summary("retry", { ...NOTHING_DONE, changed: 3, refused: 2 }), /2 refused/);
});

test("the address is the filter, the filter is the topic", () => {
  const filter = filterOf({ type: "<b>", status: "failed", tag: "", other: "1" });
  assert.deepEqual(filter, { status: "failed", type: "<b>" });
  assert.equal(topicOf(filter), "jobs?status=failed&type=%3Cb%3E");
  assert.equal(topicOf({}), "jobs");
  assert.equal(searchPath({ queue: "a b" }, "9", 100), "/api/jobs/search?after=9&limit=100&queue=a+b");
  assert.deepEqual(spelled({ type: "x", since: "t" }, (time) => time.toUpperCase()), [["Type", "x"], ["Added from", "T"]]);
});

test("what can be done to all depends on the status", () => {
  assert.deepEqual(actionsFor("failed"), ["retry", "delete"]);
  assert.deepEqual(actionsFor("pending"), ["cancel"]);
  assert.deepEqual(actionsFor(undefined), ["retry", "cancel", "delete"]);
});

test("counts come from the maintained ones where these can tell", () => {
  const depth = [
    { queue: "a", type: "x", scheduled: 1, ready: 2, processing: 3, completed: 4, failed: 5, cancelled: 6 },
    { queue: "b", type: "x", scheduled: 0, ready: 1, processing: 0, completed: 0, failed: 0, cancelled: 0 },
  ] as DepthRow[];
  assert.deepEqual(countsOf({ type: "x" }, depth), { all: 22, pending: 4, processing: 3, completed: 4, failed: 5, cancelled: 6 });
  assert.equal(countsOf({ queue: "b", status: "failed" }, depth)!.all, 1);
  assert.equal(countsOf({ text: "x" }, depth), null);
  assert.equal(countsOf({}, null), null);
  assert.equal(found(12340, 100, true), "12,340 jobs");
  assert.equal(found(null, 0, true), "None so far; with this filter they are not counted");
  assert.equal(found(null, 3, false), "3 jobs");
});

test("times of the range are at full minutes and survive the input", () => {
  assert.equal(sinceAgo(Date.UTC(2026, 0, 1, 12, 30, 59), 3600), "2026-01-01T11:30:00.000Z");
  assert.equal(fromLocal(toLocal("2026-01-01T11:30:00.000Z")), "2026-01-01T11:30:00.000Z");
  assert.equal(fromLocal(""), undefined);
  assert.equal(toLocal("nonsense"), "");
});

const PAYLOAD = { to: "ann", password: "[redacted]", cards: [{ "card no": "[redacted]" }] };

test("hidden places are found at any depth", () => {
  assert.deepEqual(redactedPaths(PAYLOAD), ["password", 'cards[0]["card no"]']);
  assert.deepEqual(redactedPaths("[redacted]"), [""]);
  assert.deepEqual(redactedPaths(null), []);
});

test("an edit says which hidden values stay and which are lost", () => {
  const edit = editOf(PAYLOAD, JSON.stringify({ ...PAYLOAD, password: "new" }));
  assert.deepEqual([edit.error, edit.kept, edit.lost], [null, ['cards[0]["card no"]'], ["password"]]);
});

test("what is no JSON, hides nothing or would be rounded is not sent", () => {
  assert.match(editOf(PAYLOAD, "{")!.error!, /^Not JSON/);
  assert.equal(editOf([{ pin: "[redacted]" }], '[{"pin":"1"},{"pin":"[redacted]"}]').error, null);
  assert.match(editOf(PAYLOAD, '{"other":"[redacted]"}').error!, /Nothing is hidden at other/);
  assert.deepEqual(roundedPaths(JSON.parse('{"a":[12345678901234567890, 1, 1.5]}')), ["a[0]"]);
  assert.match(editOf({}, '{"n":12345678901234567890}').error!, /too long/);
});
