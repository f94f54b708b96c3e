import assert from "node:assert/strict";
import { test } from "node:test";
import { absolute, bytes, count, duration, listed, percent, plural, rate, relative, shortCount, usd, words } from "../src/format.ts";

test("durations have the two largest units and never 60 of the smaller", () => {
  const expected: [number, string][] = [
    [0, "0 s"],
    [0.0000421, "42 µs"],
    [0.0042, "4.2 ms"],
    [0.42, "420 ms"],
    [0.9996, "1 s"],
    [3.21, "3.2 s"],
    [59.4, "59 s"],
    [59.6, "1 min"],
    [125, "2 min 5 s"],
    [3599.9, "1 h"],
    [11_520, "3 h 12 min"],
    [86_399, "1 d"],
    [352_800, "4 d 2 h"],
    [-3, "0 s"],
  ];
  for (const [seconds, text] of expected) assert.equal(duration(seconds), text);
});

test("relative times look both ways", () => {
  const now = Date.UTC(2026, 0, 2);
  assert.equal(relative(now - 400, now), "just now");
  assert.equal(relative(now - 42_000, now), "42 s ago");
  assert.equal(relative(now + 180_000, now), "in 3 min");
  assert.equal(relative(now - 5 * 86_400_000, now), "5 d ago");
});

test("an absolute time says its zone", () => {
  assert.match(absolute(0), /^(1970-01-01|1969-12-31) \d\d:\d\d:\d\d UTC/);
});

test("rates are given in a unit one can hold", () => {
  assert.equal(rate(0), "0/s");
  assert.equal(rate(1240), "1,240/s");
  assert.equal(rate(12.44), "12.4/s");
  assert.equal(rate(0.05), "3/min");
  assert.equal(rate(0.002), "7.2/h");
});

test("counts, shares, sizes and money", () => {
  assert.equal(count(1240), "1,240");
  assert.equal(shortCount(9_999), "9,999");
  assert.equal(shortCount(1_240_000), "1.2M");
  assert.equal(plural(1, "job"), "1 job");
  assert.equal(plural(1240, "job"), "1,240 jobs");
  assert.equal(percent(0.0004), "< 0.1 %");
  assert.equal(percent(0.063), "6.3 %");
  assert.equal(percent(0.42), "42 %");
  assert.equal(bytes(222_298_112), "212 MB");
  assert.equal(bytes(3_221_225_472), "3 GB");
  assert.equal(usd(12.4), "$12.40");
  assert.equal(usd(0.0123), "$0.0123");
});

test("words and lists", () => {
  assert.equal(words("health_checking"), "health checking");
  assert.equal(words("deadWorker"), "dead worker");
  assert.equal(listed(["a"]), "a");
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
});
