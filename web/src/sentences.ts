// What the figures mean, in plain sentences. Pure.

import { count, duration, percent, plural, rate } from "./format.ts";
import type { Capacity, Overview } from "./types.ts";

/** How busy the slots are, whether they are enough, and when the backlog is gone. */
export function capacitySentences(capacity: Capacity): string[] {
  const { slots, busy, backlog, serviceRate, arrivalRate, slotsNeeded, timeToDrain } = capacity;
  if (slots === 0) return ["No worker is running: nothing is processed.", ...waiting(backlog)];
  const said = [`${count(busy)} of ${plural(slots, "slot")} busy (${percent(busy / slots)}).`];
  if (backlog === 0) said.push("No job waits.");
  else if (timeToDrain !== null) said.push(`At this pace the backlog of ${count(backlog)} drains in ${duration(roundUp(timeToDrain))}.`);
  else if (serviceRate > 0 || arrivalRate > 0)
    said.push(`At this pace the backlog of ${count(backlog)} never drains: ${rate(arrivalRate)} arrive, ${rate(serviceRate)} finish.`);
  else said.push(...waiting(backlog));
  if (slotsNeeded !== null && slotsNeeded > slots)
    said.push(`What arrives needs ${plural(slotsNeeded, "slot")}: ${count(slotsNeeded - slots)} more than there are.`);
  else if (slotsNeeded !== null && arrivalRate > 0) said.push(`What arrives needs ${plural(slotsNeeded, "slot")}.`);
  return said;
}

function waiting(backlog: number): string[] {
  return backlog === 0 ? [] : [`${plural(backlog, "job")} ${backlog === 1 ? "waits" : "wait"}.`];
}

/** Seconds that only look exact are rounded: nobody knows them. */
function roundUp(seconds: number): number {
  if (seconds < 60) return Math.ceil(seconds);
  return Math.ceil(seconds / 60) * 60;
}

/** The first line of the overview: is it healthy, and is something late. */
export function verdict(overview: Overview, oldestWait: number | null): string {
  const { health, warnings } = overview;
  const said = [health.ready ? "Healthy" : "Not healthy"];
  said.push(warnings.length === 0 ? "nothing needs attention" : `${plural(warnings.length, "thing")} ${warnings.length === 1 ? "needs" : "need"} attention`);
  if (oldestWait !== null) said.push(`the oldest ready job has waited ${duration(oldestWait)}`);
  return `${said.join(", ")}.`;
}

/** A series for those who do not see the chart: the latest value and its bounds. */
export function seriesSentence(label: string, values: readonly (number | null)[], format: (value: number) => string): string {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return `${label}: no values.`;
  const last = values.at(-1);
  const parts = [`between ${format(Math.min(...known))} and ${format(Math.max(...known))}`];
  if (last !== null && last !== undefined) parts.unshift(`now ${format(last)}`);
  if (known.length < values.length) parts.push(`none for ${plural(values.length - known.length, "point")}`);
  return `${label}: ${parts.join(", ")}.`;
}
