import { Card } from "../components/card.tsx";
import { Icon, type IconName } from "../components/icons.tsx";
import { Bar } from "../components/bar.tsx";
import { percent } from "../format.ts";
import { capacitySentences } from "../sentences.ts";
import type { Capacity, Overview, WarningKind } from "../types.ts";

const LOOK: Record<WarningKind, { icon: IconName; tone: "warn" | "bad" }> = {
  unhandled: { icon: "info", tone: "warn" },
  paused: { icon: "pause", tone: "warn" },
  deadWorker: { icon: "warning", tone: "bad" },
  late: { icon: "warning", tone: "warn" },
  errors: { icon: "warning", tone: "bad" },
  noWorker: { icon: "warning", tone: "bad" },
  full: { icon: "warning", tone: "warn" },
  targets: { icon: "webhooks", tone: "warn" },
};

/** Whether it is healthy, and everything that wants a look, each with the place to look at. */
export function Attention({ overview }: { overview: Overview }) {
  const { health, warnings, workers } = overview;
  const processed = workers.some((worker) => worker.alive);
  return (
    <Card title="Health" flush class="attention">
      <div class={`verdict tone-${health.ready ? "good" : "bad"}`}>
        <Icon name={health.ready ? "check" : "warning"} size={18} />
        <div>
          <p class="strong">{!health.ready ? "Not ready" : processed ? "Ready: jobs are accepted and processed" : "Ready: jobs are accepted"}</p>
          {health.reasons.map((reason) => (
            <p key={reason} class="wrap">
              {reason}
            </p>
          ))}
        </div>
      </div>
      {warnings.length === 0 ? (
        <p class="attention-none muted">Nothing needs attention.</p>
      ) : (
        <ul class="warnings">
          {warnings.map((warning, index) => {
            const look = LOOK[warning.kind] ?? LOOK.late;
            return (
              <li key={index}>
                <a href={warning.link.startsWith("#/") ? warning.link : "#/"} class={`tone-${look.tone}`}>
                  <Icon name={look.icon} />
                  <span class="wrap">{warning.text}</span>
                  <Icon name="chevron" size={14} />
                </a>
              </li>
            );
          })}
        </ul>
      )}
    </Card>
  );
}

export function CapacityCard({ capacity }: { capacity: Capacity }) {
  const [first, ...rest] = capacitySentences(capacity);
  const share = capacity.slots === 0 ? 0 : capacity.busy / capacity.slots;
  const short = capacity.slotsNeeded !== null && capacity.slotsNeeded > capacity.slots;
  return (
    <Card title="Capacity">
      <div class="capacity">
        <p class="capacity-first">{first}</p>
        <Bar fraction={share} label="Busy slots" tone={share >= 0.95 ? "warn" : "accent"} />
        {rest.map((sentence) => (
          <p key={sentence}>{sentence}</p>
        ))}
        {capacity.utilisation !== null && (
          <p class={short ? undefined : "muted"}>
            Utilisation {percent(capacity.utilisation)}: the share of the slots that what arrives keeps busy.
          </p>
        )}
      </div>
    </Card>
  );
}
