// One delivery: what was sent where, and what came back each time.

import { useState } from "preact/hooks";
import { attempt, post } from "../api.ts";
import { now } from "../clock.ts";
import { Badge, StatusBadge } from "../components/badge.tsx";
import { Button } from "../components/button.tsx";
import { Copyable } from "../components/copy.tsx";
import { Fact, Facts } from "../components/facts.tsx";
import { JsonView } from "../components/json.tsx";
import { Time } from "../components/time.tsx";
import { duration, plural } from "../format.ts";
import { href } from "../router.ts";
import { can } from "../session.ts";
import type { Delivery, DeliveryAttempt, DeliveryStatus } from "../types.ts";

const MEANS: Record<DeliveryStatus, string> = {
  pending: "It is tried until it is delivered, for 24 hours.",
  delivered: "The target took it.",
  expired: "Given up: not delivered within 24 hours.",
  disabled: "Not sent: the target has answered 410 Gone.",
  refused: "Not sent: the address must not be reached.",
};

/** Ended without having been delivered: a person can have it sent again. */
const UNDELIVERED = new Set<DeliveryStatus>(["expired", "disabled", "refused"]);

export function Deliveries({ deliveries, ofInstance }: { deliveries: Delivery[]; ofInstance?: boolean }) {
  return (
    <ul class="deliveries">
      {deliveries.map((delivery) => (
        <li key={delivery.id}>
          <DeliveryEntry delivery={delivery} ofInstance={ofInstance ?? false} />
        </li>
      ))}
    </ul>
  );
}

function DeliveryEntry({ delivery, ofInstance }: { delivery: Delivery; ofInstance: boolean }) {
  // Its inside is only made when it is looked at: hundreds of payloads are a long document.
  const [open, setOpen] = useState(false);
  return (
    <details class="delivery" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <StatusBadge status={delivery.status} />
        <span class="delivery-what">
          <span class="strong wrap">{delivery.type ?? "webhook"}</span>
          <span class="muted small ellipsis" title={delivery.url}>
            {delivery.url}
          </span>
        </span>
        <Answer delivery={delivery} />
        <span class="delivery-when muted small">
          <Time at={delivery.createdAt} />
        </span>
      </summary>
      {open && <Inside delivery={delivery} ofInstance={ofInstance} />}
    </details>
  );
}

function Answer({ delivery }: { delivery: Delivery }) {
  const last = delivery.attempts.at(-1);
  const times = delivery.attempts.length;
  return (
    <span class="delivery-answer small">
      {last === undefined ? <span class="muted">not tried yet</span> : <HttpStatus attempt={last} />}
      {times > 1 && <span class="muted">after {plural(times, "attempt")}</span>}
      {delivery.nextAttemptAt !== null && (
        <span class="muted">again {Date.parse(delivery.nextAttemptAt) > now.value ? <Time at={delivery.nextAttemptAt} /> : "at any moment"}</span>
      )}
    </span>
  );
}

function HttpStatus({ attempt: { status, error } }: { attempt: DeliveryAttempt }) {
  const good = !error;
  return <Badge tone={good ? "good" : "bad"}>{status ? String(status) : "no answer"}</Badge>;
}

function Inside({ delivery, ofInstance }: { delivery: Delivery; ofInstance: boolean }) {
  const [busy, setBusy] = useState(false);
  async function again(): Promise<void> {
    setBusy(true);
    await attempt(() => post(`/api/webhooks/${encodeURIComponent(delivery.id)}/retry`), "It is sent again.");
    setBusy(false);
  }
  return (
    <div class="delivery-body stack">
      <div class="row row-apart">
        <p class="muted">{MEANS[delivery.status]}</p>
        {can("operator") && UNDELIVERED.has(delivery.status) && (
          <Button small icon="retry" busy={busy} onClick={() => void again()}>
            Send again
          </Button>
        )}
      </div>
      <Facts>
        <Fact name="Id">
          <Copyable text={delivery.id} label="Copy the id" />
        </Fact>
        <Fact name="Target">
          <Copyable text={delivery.url} label="Copy the URL" />
        </Fact>
        {delivery.instanceId !== null && !ofInstance && (
          <Fact name="Instance">
            <a class="wrap" href={href(`/instances/${encodeURIComponent(delivery.instanceId)}`)}>
              {delivery.instanceId}
            </a>
          </Fact>
        )}
        {delivery.jobId !== null && (
          <Fact name="Job">
            <a class="wrap" href={href(`/jobs/${encodeURIComponent(delivery.jobId)}`)}>
              {delivery.jobId}
            </a>
          </Fact>
        )}
      </Facts>
      <div>
        <h3>{delivery.attempts.length === 0 ? "Not tried yet" : plural(delivery.attempts.length, "attempt")}</h3>
        <ol class="answers">
          {delivery.attempts.map((one, index) => (
            <li key={one.at + String(index)} class="answer">
              <span class="row">
                <HttpStatus attempt={one} />
                <span class="muted small">
                  <Time at={one.at} />, took {duration(one.duration)}
                </span>
                {one.error && <span class="answer-error wrap">{one.error}</span>}
              </span>
              {one.excerpt && (
                <pre class="code" tabIndex={0} role="region" aria-label={`The answer to attempt ${index + 1} of ${delivery.id}`}>
                  {one.excerpt}
                </pre>
              )}
            </li>
          ))}
        </ol>
      </div>
      <div>
        <h3>What is sent</h3>
        <JsonView value={delivery.payload} label={`The payload of ${delivery.id}`} />
      </div>
    </div>
  );
}
