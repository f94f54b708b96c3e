import type { ComponentChildren } from "preact";
import { Since } from "../components/time.tsx";
import { brief, count, duration, percent, rate, shortCount } from "../format.ts";
import type { Overview } from "../types.ts";

/** The figures of the last five minutes in one line. */
export function Stats({ overview }: { overview: Overview }) {
  const { rates, counts, oldestReadyAt } = overview;
  const ran = rates.throughput > 0;
  return (
    <dl class="stats" aria-label="Figures of the last 5 minutes">
      <Stat name="Throughput" value={rate(rates.throughput)} more={[`${rate(rates.arrival)} arrive`]} />
      <Stat
        name="Error rate"
        value={percent(rates.errorRate)}
        more={["of attempts"]}
        tone={rates.errorRate >= 0.25 ? "bad" : rates.errorRate >= 0.05 ? "warn" : undefined}
      />
      <Stat
        name="Queue latency"
        value={ran ? duration(rates.waitP50) : "–"}
        more={ran ? [`p95 ${brief(rates.waitP95)}`, `p99 ${brief(rates.waitP99)}`] : ["nothing ran"]}
      />
      <Stat
        name="Run time"
        value={ran ? duration(rates.runP50) : "–"}
        more={ran ? [`p95 ${brief(rates.runP95)}`, `p99 ${brief(rates.runP99)}`] : ["nothing ran"]}
      />
      <Stat name="Oldest ready job" value={<Since at={oldestReadyAt} none="none" />} more={[oldestReadyAt === null ? "no job waits" : "has waited"]} />
      <Stat name="Ready" value={count(counts.ready)} more={[`${shortCount(counts.processing)} running`, `${shortCount(counts.scheduled)} scheduled`]} />
    </dl>
  );
}

function Stat({ name, value, more, tone }: { name: string; value: ComponentChildren; more: string[]; tone?: "warn" | "bad" }) {
  return (
    <div class="stat">
      <dt>{name}</dt>
      <dd class={`stat-value${tone ? ` tone-${tone}` : ""}`}>{value}</dd>
      <dd class="stat-more muted small">
        {more.map((part) => (
          <span key={part}>{part}</span>
        ))}
      </dd>
    </div>
  );
}
