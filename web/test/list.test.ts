import assert from "node:assert/strict";
import { test } from "node:test";
import { Loaded, PAGE } from "../src/jobs/list.ts";
import type { JobList, JobRow } from "../src/types.ts";

const row = (n: number) => ({ id: `id-${String(n).padStart(6, "0")}`, createdAt: new Date(n * 10).toISOString() }) as JobRow;
const rows = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, index) => row(from - index));
const page = (from: number, to: number, next?: number): JobList => ({
  jobs: from < to ? [] : rows(from, to),
  total: null,
  scanned: 20_000,
  ...(next === undefined ? {} : { nextCursor: String(next) }),
});
const ends = (list: Loaded) => [list.rows.value[0]?.id, list.rows.value.at(-1)?.id, list.rows.value.length];

/** A list whose server answers these pages, one after the other. */
function fake(...pages: (JobList | Error | (() => JobList))[]) {
  const asked: string[] = [];
  const list = new Loaded({ text: "x" }, async (path) => {
    asked.push(new URLSearchParams(path.split("?")[1]).get("after")!);
    const next = pages.shift();
    if (next instanceof Error) throw next;
    return typeof next === "function" ? next() : next!;
  });
  return { list, asked };
}

test("at the top the list is the first page", () => {
  const { list } = fake();
  list.show(page(1000, 901, 901));
  list.show(page(1300, 1201, 1201));
  assert.deepEqual(ends(list), [row(1300).id, row(1201).id, 100]);
  assert.equal(list.next.value, "1201");
  assert.equal(list.unseen.value, 0);
});

test("away from the top new rows are counted and nothing that is shown goes", async () => {
  const { list, asked } = fake(page(900, 801, 801));
  list.show(page(1000, 901, 901));
  list.atTop(false);
  list.show(page(1003, 904, 904));
  assert.deepEqual(ends(list), [row(1003).id, row(901).id, 103]);
  assert.equal(list.unseen.value, 3);

  await list.more();
  assert.deepEqual(asked, ["901"]);
  assert.deepEqual(ends(list), [row(1003).id, row(801).id, 203]);
  list.atTop(true);
  assert.equal(list.unseen.value, 0);
  assert.equal(list.rows.value.length, 203);
});

test("after too many new rows the list waits until the reader wants the newest", () => {
  const { list } = fake();
  list.show(page(1000, 901, 901));
  list.atTop(false);
  list.show(page(2000, 1901, 1901));
  assert.ok(list.gap.value);
  assert.equal(list.rows.value[0]!.id, row(1000).id);
  list.atTop(true);
  assert.deepEqual([list.gap.value, ...ends(list)], [false, row(2000).id, row(1901).id, 100]);
});

test("pages without a match: the reader is asked, then it goes on until one is found", async () => {
  const { list, asked } = fake(page(0, 1, 500), page(0, 1, 300), page(299, 299, 200), page(0, 1));
  list.show(page(0, 1, 700));
  assert.deepEqual([list.short.value, list.scanned.value], [true, 20_000]);

  await list.more(true);
  assert.deepEqual(asked, ["700", "500", "300"]);
  assert.deepEqual([list.rows.value.length, list.scanned.value, list.short.value], [1, 80_000, true]);
  await list.more(true);
  assert.deepEqual([list.next.value, list.short.value], [undefined, false]);
});

test("a stop ends the going on", async () => {
  let list: Loaded | undefined;
  const made = fake(() => {
    list!.stop();
    return page(0, 1, 500);
  });
  list = made.list;
  list.show(page(0, 1, 700));
  await list.more(true);
  assert.deepEqual([made.asked.length, list.loading.value], [1, false]);
});

test("an error is told and the same page can be asked for again", async () => {
  const { list, asked } = fake(new Error("503"), page(900, 801));
  list.show(page(1000, 901, 901));
  await list.more();
  assert.equal(list.error.value, "503");
  await list.more();
  assert.deepEqual([list.error.value, asked.length, ...ends(list)], [null, 2, row(1000).id, row(801).id, 200]);
});

test("a page that comes after the list was begun again is not part of it", async () => {
  let list: Loaded | undefined;
  const made = fake(() => {
    list!.show(page(2000, 1901, 1901));
    list!.newest();
    return page(900, 801, 801);
  });
  list = made.list;
  list.show(page(1000, 901, 901));
  await list.more();
  assert.deepEqual(ends(list), [row(2000).id, row(1901).id, PAGE]);
});
