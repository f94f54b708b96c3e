import assert from "node:assert/strict";
import { test } from "node:test";
import { bodyOf, cheapestRegion, faultsOf, hourly, Keys, NEW, offersOf, randomKey } from "../src/instances/form.ts";
import { allowed, stepsOf } from "../src/instances/steps.ts";
import type { InstanceView, Product } from "../src/types.ts";

function product(name: string, regions: string[], spotPrice: number | null, available = true): Product {
  return { id: `${name}-${regions}`, name, regions, available, spotPrice, onDemandPrice: 2, gpuMemory: 24, cpus: 8, memory: 32 };
}

const PRODUCTS = [
  product("B", ["eu"], 0.9),
  product("A", ["eu"], null),
  product("C", ["eu"], 0.1, false),
  product("B", ["us", "asia"], 0.5),
];

test("products of one name are one offer at the cheapest price that is to be had", () => {
  const offers = offersOf(PRODUCTS, "spot");
  assert.deepEqual(offers.map((offer) => [offer.name, offer.price, offer.available]), [
    ["B", 0.5, true],
    ["A", null, false],
    ["C", null, false],
  ]);
  assert.deepEqual(offers[0]!.regions.map((region) => [region.name, region.price]), [["asia", 0.5], ["eu", 0.9], ["us", 0.5]]);
  assert.equal(cheapestRegion(offers[0]), "asia");
  assert.equal(cheapestRegion(offers[1]), "");
  assert.equal(offersOf(PRODUCTS, "onDemand").find((offer) => offer.name === "A")!.price, 2);
});

test("the price is that of the region for all GPUs; elsewhere it is a guess", () => {
  const [offer] = offersOf(PRODUCTS, "spot");
  assert.deepEqual(hourly(offer, { ...NEW, gpuNum: "2", region: "eu" }), { price: 1.8, exact: true });
  assert.deepEqual(hourly(offer, { ...NEW, region: "mars" }), { price: 0.5, exact: false });
  assert.equal(hourly(offer, { ...NEW, gpuNum: "x" }), null);
  assert.equal(hourly(undefined, NEW), null);
});

test("faults are told at their fields, and a right draft has none", () => {
  assert.deepEqual(Object.keys(faultsOf({ ...NEW, gpuNum: "9", rootfsSize: "1.5", webhookUrl: "ftp://x" })).sort(), [
    "gpuNum",
    "name",
    "productName",
    "rootfsSize",
    "templateId",
    "webhookUrl",
  ]);
  const draft = { ...NEW, name: " trainer ", productName: "B", templateId: "107672" };
  assert.deepEqual(faultsOf(draft), {});
  assert.deepEqual(bodyOf(draft), {
    name: "trainer",
    productName: "B",
    templateId: "107672",
    gpuNum: 1,
    rootfsSize: 60,
    billingMode: "spot",
  });
});

test("the same request has the same key, another one another", () => {
  let n = 0;
  const keys = new Keys(() => `key-${(n += 1)}`);
  assert.equal(keys.for({ a: 1 }), "key-1");
  assert.equal(keys.for({ a: 1 }), "key-1");
  assert.equal(keys.for({ a: 2 }), "key-2");
  keys.done();
  assert.equal(keys.for({ a: 2 }), "key-3");
  assert.match(randomKey(), /^[0-9a-f]{32}$/);
});

const T = "2026-01-01T00:00:00Z";
const instance = (changes: Partial<InstanceView>) =>
  ({ status: "creating", createdAt: T, startedAt: null, runningAt: null, readyAt: null, failedAt: null, healthCheck: null, novitaInstanceId: null, operation: null, ...changes }) as InstanceView;
const states = (changes: Partial<InstanceView>) => stepsOf(instance(changes)).map((step) => step.state);

test("the steps follow the status", () => {
  assert.deepEqual(states({}), ["current", "todo", "todo", "todo", "todo"]);
  assert.deepEqual(states({ status: "health_checking", startedAt: T, runningAt: T }), ["done", "done", "done", "current", "todo"]);
  assert.deepEqual(states({ status: "ready", startedAt: T, runningAt: T, readyAt: T }), ["done", "done", "done", "done", "done"]);
});

test("a failure is at the step it came to, a stopped one has been ready", () => {
  assert.deepEqual(states({ status: "failed", startedAt: T, failedAt: T }), ["done", "failed", "todo", "todo", "todo"]);
  assert.deepEqual(states({ status: "stopped", startedAt: T, runningAt: T, readyAt: T }), ["done", "done", "done", "done", "done"]);
  assert.deepEqual(states({ status: "terminated" }), ["done", "todo", "todo", "todo", "todo"]);
});

test("what may be asked of it", () => {
  assert.deepEqual(allowed(instance({ status: "ready" })), { start: false, stop: true, delete: true });
  assert.deepEqual(allowed(instance({ status: "failed" })), { start: false, stop: false, delete: true });
  assert.deepEqual(allowed(instance({ status: "failed", novitaInstanceId: "x" })).start, true);
  assert.deepEqual(allowed(instance({ status: "terminated" })).delete, false);
});
