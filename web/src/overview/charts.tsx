import { useMemo, useState } from "preact/hooks";
import { Card } from "../components/card.tsx";
import { Chart } from "../components/chart.tsx";
import { ProblemBox, Skeleton } from "../components/states.tsx";
import { Segments } from "../components/tabs.tsx";
import { brief, count, decimal, duration, percent } from "../format.ts";
import { useLive } from "../live.ts";
import type { History, Range } from "../types.ts";

const RANGES: { value: Range; label: string }[] = [
  { value: "live", label: "5 min" },
  { value: "hour", label: "Hour" },
  { value: "day", label: "Day" },
  { value: "week", label: "Week" },
];

export function Charts() {
  const [range, setRange] = useState<Range>("live");
  const { data, problem } = useLive<History>(`history?range=${range}`).value;
  return (
    <Card title="History" hint="each point sums up its step" actions={<Segments label="Range" choices={RANGES} value={range} onChange={setRange} />}>
      {problem !== null ? <ProblemBox problem={problem} /> : data === null ? <Skeleton lines={8} /> : <Grid history={data} />}
    </Card>
  );
}

function Grid({ history }: { history: History }) {
  const { at, step } = history;
  const series = useMemo(() => seriesOf(history), [history]);
  const every = `every ${duration(step)}`;
  return (
    <div class="charts">
      <Chart title="Throughput" hint={`finished jobs, ${every}`} at={at} series={series.throughput} format={series.rate} least={1} />
      <Chart title="Error rate" hint={`share of attempts, ${every}`} at={at} series={series.errors} format={percent} least={0.05} />
      <Chart title="Depth" hint={`jobs, ${every}`} at={at} series={series.depth} format={count} least={5} />
      <Chart title="Queue latency" hint="from ready to started" at={at} series={series.wait} format={duration} axis={brief} log />
      <Chart title="Run time" hint="from started to ended" at={at} series={series.run} format={duration} axis={brief} log />
    </div>
  );
}

function seriesOf(history: History) {
  const { step } = history;
  // One unit for the whole chart, so that its numbers can be compared.
  const perMinute = Math.max(...history.finished, ...history.failed, 0) < step;
  const size = perMinute ? step / 60 : step;
  const unit = perMinute ? "/min" : "/s";
  return {
    rate: (value: number) => `${decimal(value)}${unit}`,
    throughput: [
      { label: "finished", values: history.finished.map((n) => n / size), color: "accent-fill", fill: true },
      { label: "failed attempts", values: history.failed.map((n) => n / size), color: "bad-fill" },
    ],
    errors: [
      {
        label: "failed",
        values: history.attempts.map((n, index) => (n === 0 ? null : history.failed[index]! / n)),
        color: "bad-fill",
        fill: true,
      },
    ],
    depth: [
      { label: "ready", values: history.ready, color: "accent-fill", fill: true },
      { label: "processing", values: history.processing, color: "busy-fill" },
      { label: "scheduled", values: history.scheduled, color: "off-fill", dash: true },
    ],
    wait: percentiles(history.waitP50, history.waitP95, history.waitP99),
    run: percentiles(history.runP50, history.runP95, history.runP99),
  };
}

type Values = (number | null)[];

function percentiles(p50: Values, p95: Values, p99: Values) {
  return [
    { label: "p50", values: p50, color: "accent-fill" },
    { label: "p95", values: p95, color: "busy-fill" },
    { label: "p99", values: p99, color: "off-fill", dash: true },
  ];
}
