import { useEffect, useState } from "preact/hooks";
import { attempt, get, post } from "../api.ts";
import { Button } from "../components/button.tsx";
import { Card, PageHead } from "../components/card.tsx";
import { confirm } from "../components/confirm.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Time } from "../components/time.tsx";
import { capital, words } from "../format.ts";
import { useLive } from "../live.ts";
import { encodeQuery } from "../route.ts";
import { href, route, setQuery } from "../router.ts";
import { can } from "../session.ts";
import type { Delivery, DeliveryStatus, DisabledTarget, Webhooks } from "../types.ts";
import { Deliveries } from "../webhooks/delivery.tsx";

const STATUSES: DeliveryStatus[] = ["pending", "delivered", "expired", "disabled", "refused"];

export function WebhooksPage() {
  const asked = route.value.query.status;
  const status = STATUSES.find((one) => one === asked);
  const { data, problem } = useLive<Webhooks>(status === undefined ? "webhooks" : `webhooks?status=${status}`).value;
  return (
    <>
      <PageHead title="Webhooks" lead="What was told to whom about instances, and what they answered. Not delivered is tried again for 24 hours." />
      {data !== null && data.targets.length > 0 && <Targets targets={data.targets} />}
      <nav class="status-tabs" aria-label="Status">
        {[undefined, ...STATUSES].map((one) => (
          <a key={one ?? ""} href={href("/webhooks", { status: one })} aria-current={one === status ? "true" : undefined}>
            {one === undefined ? "All" : capital(words(one))}
          </a>
        ))}
      </nav>
      {problem !== null ? (
        <ProblemBox problem={problem} />
      ) : data === null ? (
        <div class="card below-tabs">
          <Skeleton lines={6} label="Loading webhooks" />
        </div>
      ) : (
        <List key={status ?? ""} status={status} live={data} />
      )}
    </>
  );
}

function List({ status, live }: { status: DeliveryStatus | undefined; live: Webhooks }) {
  const [older, setOlder] = useState<{ rows: Delivery[]; next: string | undefined } | null>(null);
  const [busy, setBusy] = useState(false);
  const known = new Set(live.deliveries.map((one) => one.id));
  const rows = [...live.deliveries, ...(older?.rows.filter((one) => !known.has(one.id)) ?? [])];
  const next = older === null ? live.nextCursor : older.next;

  async function more(): Promise<void> {
    setBusy(true);
    await attempt(async () => {
      const page = await get<Webhooks>(`/api/webhooks?${encodeQuery({ status, limit: 100, after: next })}`);
      setOlder({ rows: [...(older?.rows ?? []), ...page.deliveries], next: page.nextCursor });
    });
    setBusy(false);
  }

  // A page looks at so many deliveries and no further: with a status it may be empty and not the last.
  if (rows.length === 0 && next !== undefined)
    return (
      <div class="card below-tabs">
        <EmptyState
          icon="search"
          title={`None of the newest is ${words(status ?? "")}`}
          action={
            <Button busy={busy} onClick={() => void more()}>
              Look at older ones
            </Button>
          }
        />
      </div>
    );
  if (rows.length === 0)
    return (
      <div class="card below-tabs">
        {status === undefined ? (
          <EmptyState icon="webhooks" title="No webhook was sent yet">
            <p>An instance that is asked for with a webhook URL tells it, signed, when it is being created, is ready, has failed, was stopped.</p>
          </EmptyState>
        ) : (
          <EmptyState icon="webhooks" title={`None is ${words(status)}`} action={<Button onClick={() => setQuery({ status: null })}>Show all</Button>} />
        )}
      </div>
    );
  return (
    <Card flush class="below-tabs">
      <Deliveries deliveries={rows} />
      {next !== undefined && (
        <div class="table-foot">
          <Button busy={busy} onClick={() => void more()}>
            Show older ones
          </Button>
        </div>
      )}
    </Card>
  );
}

/** Targets that answered 410 Gone get nothing until a person says so. */
function Targets({ targets }: { targets: DisabledTarget[] }) {
  const [enabled, setEnabled] = useState<string[]>([]);
  useEffect(() => setEnabled((old) => old.filter((url) => targets.some((target) => target.url === url))), [targets]);
  async function enable(url: string): Promise<void> {
    const yes = await confirm({
      title: "Send to this target again?",
      text: (
        <div class="stack stack-tight">
          <p class="wrap">
            <code>{url}</code>
          </p>
          <p>It has answered 410 Gone, which asks for nothing more. New events are sent to it again; those that were not sent stay unsent unless you send them one by one.</p>
        </div>
      ),
      action: "Send again",
    });
    if (yes && (await attempt(() => post("/api/webhooks/targets/enable", { url }), "It gets webhooks again."))) setEnabled((old) => [...old, url]);
  }
  const shown = targets.filter((target) => !enabled.includes(target.url));
  if (shown.length === 0) return null;
  return (
    <Card title="Disabled targets" hint="They answered 410 Gone" class="targets">
      <ul class="target-list">
        {shown.map((target) => (
          <li key={target.url}>
            <code class="wrap">{target.url}</code>
            <span class="muted small">
              disabled <Time at={target.at} />
            </span>
            {can("operator") && (
              <Button small onClick={() => void enable(target.url)}>
                Send again…
              </Button>
            )}
          </li>
        ))}
      </ul>
    </Card>
  );
}
