import { now } from "../clock.ts";
import { PageHead } from "../components/card.tsx";
import { ProblemBox, Skeleton } from "../components/states.tsx";
import { useLive } from "../live.ts";
import { Charts } from "../overview/charts.tsx";
import { Depth } from "../overview/depth.tsx";
import { Attention, CapacityCard } from "../overview/health.tsx";
import { Stats } from "../overview/stats.tsx";
import { Workers } from "../overview/workers.tsx";
import { verdict } from "../sentences.ts";
import type { Overview } from "../types.ts";

/** Is it healthy, what is late, does it keep up: one screen. */
export function OverviewPage() {
  const { data, problem } = useLive<Overview>("overview").value;
  return (
    <>
      <PageHead title="Overview" lead={data && verdict(data, waited(data.oldestReadyAt))} />
      {problem !== null ? (
        <ProblemBox problem={problem} />
      ) : data === null ? (
        <Skeleton lines={10} />
      ) : (
        <div class="stack">
          <Stats overview={data} />
          <div class="overview-top">
            <Attention overview={data} />
            <CapacityCard capacity={data.capacity} />
          </div>
          <Charts />
          <Depth overview={data} />
          <Workers workers={data.workers} />
        </div>
      )}
    </>
  );
}

function waited(at: string | null): number | null {
  return at === null ? null : Math.max(0, Math.round((now.value - Date.parse(at)) / 1000));
}
