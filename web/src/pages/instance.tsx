import { Badge, StatusBadge } from "../components/badge.tsx";
import { ButtonLink } from "../components/button.tsx";
import { Card } from "../components/card.tsx";
import { Copyable, CopyButton } from "../components/copy.tsx";
import { Fact, Facts } from "../components/facts.tsx";
import { Icon } from "../components/icons.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Table } from "../components/table.tsx";
import { Time } from "../components/time.tsx";
import { duration, usd, words } from "../format.ts";
import { InstanceActions } from "../instances/actions.tsx";
import { Stepper } from "../instances/stepper.tsx";
import { isMoving } from "../instances/steps.ts";
import { useLive } from "../live.ts";
import { href } from "../router.ts";
import type { EndpointHealth, InstanceDetail, InstanceView, PortMapping, TimelineEvent } from "../types.ts";
import { Deliveries } from "../webhooks/delivery.tsx";

export function InstancePage({ id }: { id: string }) {
  const { data, problem } = useLive<InstanceDetail>(`instance/${encodeURIComponent(id)}`).value;
  if (problem === null && data !== null) return <Detail instance={data} />;
  return (
    <>
      <Crumb />
      <h1 class="page-title">Instance {id}</h1>
      {problem === null ? (
        <div class="card">
          <Skeleton lines={8} label="Loading the instance" />
        </div>
      ) : problem.status === 404 ? (
        <div class="card">
          <EmptyState icon="search" title="There is no such instance" action={<ButtonLink href={href("/instances")}>To the instances</ButtonLink>}>
            <p>The address may not be whole, or it belongs to another deployment.</p>
          </EmptyState>
        </div>
      ) : (
        <ProblemBox problem={problem} />
      )}
    </>
  );
}

function Crumb() {
  return (
    <p class="crumb">
      <a href={href("/instances")}>
        <Icon name="back" size={14} /> Instances
      </a>
    </p>
  );
}

function Detail({ instance }: { instance: InstanceDetail }) {
  return (
    <>
      <Crumb />
      <div class="page-head">
        <div class="title-block">
          <div class="row">
            <h1>{instance.name}</h1>
            <StatusBadge status={instance.status} />
          </div>
          <Copyable text={instance.id} label="Copy the id" />
        </div>
        <div class="page-actions">
          <InstanceActions instance={instance} />
        </div>
      </div>
      <Trouble instance={instance} />
      <Card title="From request to ready" class="stepper-card" hint={readyText(instance)}>
        <Stepper instance={instance} />
      </Card>
      <div class="detail">
        <div class="stack">
          <Ports instance={instance} />
          <Card title="What happened" flush>
            <Events events={instance.timeline} />
          </Card>
          <Card title="Webhooks" flush>
            {instance.deliveries.length === 0 ? (
              <p class="muted card-empty">{instance.webhookUrl === null ? "It has no webhook URL: nobody is told." : "None yet."}</p>
            ) : (
              <Deliveries deliveries={[...instance.deliveries].reverse()} ofInstance />
            )}
          </Card>
        </div>
        <div class="stack">
          <Cost instance={instance} />
          <Card title="Facts">
            <InstanceFacts instance={instance} />
          </Card>
          <Card title="Its jobs">
            <Facts>
              {Object.entries(instance.jobs).map(([type, id]) => (
                <Fact key={type} name={words(type)}>
                  <a class="wrap" href={href(`/jobs/${encodeURIComponent(id)}`)}>
                    {id}
                  </a>
                </Fact>
              ))}
            </Facts>
          </Card>
        </div>
      </div>
    </>
  );
}

function readyText({ createdAt, readyAt, status }: InstanceView): string | undefined {
  if (readyAt === null || status === "creating") return undefined;
  const seconds = (Date.parse(readyAt) - Date.parse(createdAt)) / 1000;
  return seconds < 0 ? undefined : `ready ${duration(seconds)} after it was asked for`;
}

function Trouble({ instance }: { instance: InstanceView }) {
  if (instance.lastError !== null && !isMoving(instance.status) && instance.status !== "ready")
    return (
      <section class="explained tone-bad" aria-label="Why it failed">
        <h2>{instance.status === "failed" ? "Why it failed" : "What went wrong last"}</h2>
        <p class="explained-text wrap">{instance.lastError}</p>
      </section>
    );
  if (instance.operationError !== null)
    return (
      <section class="explained tone-warn" aria-label="What stands in the way">
        <h2>What stands in the way; it goes on trying</h2>
        <p class="explained-text wrap">{instance.operationError}</p>
      </section>
    );
  return null;
}

interface Port extends PortMapping {
  health: EndpointHealth | null;
}

function Ports({ instance }: { instance: InstanceDetail }) {
  const checks = instance.healthCheck?.endpoints ?? [];
  const ports: Port[] = instance.portMappings.map((mapping) => ({ ...mapping, health: checks.find((check) => check.port === mapping.port) ?? null }));
  for (const health of checks) if (!ports.some((port) => port.port === health.port)) ports.push({ ...health, health });
  const checked = instance.healthCheck?.overallStatus;
  return (
    <Card title="Ports and health" flush actions={checked && <Badge tone={toneOf(checked)}>{words(checked)}</Badge>}>
      {ports.length === 0 ? (
        <p class="muted card-empty">{isMoving(instance.status) ? "Known once it runs." : "None."}</p>
      ) : (
        <Table
          caption="Ports and their health"
          rows={ports}
          rowKey={(port) => port.port}
          columns={[
            { head: "Port", header: true, cell: (port) => `${port.port} ${port.type}` },
            { head: "Endpoint", cell: (port) => <Endpoint port={port} /> },
            { head: "Health", cell: (port) => <Health health={port.health} /> },
            { head: "Answer", end: true, cell: (port) => (port.health === null ? <span class="muted">–</span> : duration(port.health.responseTime)) },
            { head: "Checked", end: true, cell: (port) => <Time at={port.health?.lastChecked} /> },
          ]}
        />
      )}
    </Card>
  );
}

function Endpoint({ port }: { port: Port }) {
  // Only what is certainly a web address becomes a link: the provider's words are text too.
  return (
    <span class="copyable">
      {/^https?:\/\//.test(port.endpoint) ? (
        <a class="wrap" href={port.endpoint} target="_blank" rel="noopener noreferrer">
          {port.endpoint}
        </a>
      ) : (
        <code class="wrap">{port.endpoint}</code>
      )}
      <CopyButton text={port.endpoint} label={`Copy the endpoint of port ${port.port}`} />
    </span>
  );
}

function Health({ health }: { health: EndpointHealth | null }) {
  if (health === null) return <span class="muted">not checked</span>;
  return (
    <span class="instance-status">
      <Badge tone={toneOf(health.status)}>{words(health.status)}</Badge>
      {health.error && <span class="instance-error">{health.error}</span>}
    </span>
  );
}

function toneOf(health: string): "good" | "bad" | "warn" {
  return health === "healthy" ? "good" : health === "unhealthy" ? "bad" : "warn";
}

function Events({ events }: { events: TimelineEvent[] }) {
  if (events.length === 0) return <p class="muted card-empty">Nothing yet.</p>;
  return (
    <ol class="events">
      {[...events].reverse().map((event) => (
        <li key={event.id} class={`event event-${event.data.error ? "bad" : event.type === "instance.ready" ? "good" : "plain"}`}>
          <span class="event-mark" aria-hidden="true" />
          <span class="event-what">
            <span class="strong wrap">{words(event.type.replace(/^instance\./, ""))}</span>
            {event.data.error && <span class="instance-error">{event.data.error}</span>}
          </span>
          <span class="muted small event-when">
            <Time at={event.timestamp} />
            {event.data.elapsedTime !== undefined && event.data.elapsedTime > 0 && <> · after {duration(event.data.elapsedTime)}</>}
          </span>
        </li>
      ))}
    </ol>
  );
}

function Cost({ instance }: { instance: InstanceView }) {
  return (
    <Card title="Cost so far">
      <p class="cost">{instance.cost === null ? "–" : usd(instance.cost)}</p>
      <p class="muted">
        {instance.hourlyPrice === null ? "Its price is known once a GPU is found." : `${usd(instance.hourlyPrice)} an hour for ${instance.gpuNum} × ${instance.productName}, ${billing(instance)}`}
      </p>
      <p class="muted small">An estimate by the minute; the bill is the provider's.</p>
    </Card>
  );
}

function billing({ billingMode }: InstanceView): string {
  return billingMode === "spot" ? "spot" : "on demand";
}

function InstanceFacts({ instance }: { instance: InstanceView }) {
  return (
    <Facts>
      <Fact name="GPU">
        {instance.gpuNum} × {instance.productName}
      </Fact>
      <Fact name="Region">
        {instance.chosenRegion ?? "not chosen yet"}
        {instance.chosenRegion !== instance.region && <span class="muted"> ({instance.region} asked for)</span>}
      </Fact>
      <Fact name="Billing">{billing(instance)}</Fact>
      <Fact name="Disk">{instance.rootfsSize} GB</Fact>
      <Fact name="Template">{instance.templateId}</Fact>
      {instance.webhookUrl !== null && (
        <Fact name="Webhook">
          <Copyable text={instance.webhookUrl} label="Copy the webhook URL" />
        </Fact>
      )}
      {instance.novitaInstanceId !== null && (
        <Fact name="Upstream id">
          <Copyable text={instance.novitaInstanceId} label="Copy the upstream id" />
        </Fact>
      )}
      <Fact name="Asked for">
        <Time at={instance.createdAt} />
      </Fact>
      {instance.stoppedAt !== null && (
        <Fact name="Stopped">
          <Time at={instance.stoppedAt} />
        </Fact>
      )}
      {instance.terminatedAt !== null && (
        <Fact name="Deleted">
          <Time at={instance.terminatedAt} />
        </Fact>
      )}
    </Facts>
  );
}
