import { useState } from "preact/hooks";
import { Badge, StatusBadge } from "../components/badge.tsx";
import { Bar } from "../components/bar.tsx";
import { ButtonLink } from "../components/button.tsx";
import { Card } from "../components/card.tsx";
import { Copyable, CopyButton } from "../components/copy.tsx";
import { Fact, Facts } from "../components/facts.tsx";
import { Icon } from "../components/icons.tsx";
import { JsonView } from "../components/json.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Time } from "../components/time.tsx";
import { capital, count, percent, plural } from "../format.ts";
import { JobActions } from "../jobs/actions.tsx";
import { AttemptErrors, Attempts, hasFailed } from "../jobs/attempts.tsx";
import { PRIORITIES } from "../jobs/row.tsx";
import { useLive } from "../live.ts";
import { href } from "../router.ts";
import type { JobDetail, JobRow, JobView } from "../types.ts";

export function JobPage({ id }: { id: string }) {
  const { data, problem } = useLive<JobDetail>(`job/${encodeURIComponent(id)}`).value;
  if (problem !== null)
    return (
      <>
        <Crumb />
        <h1 class="page-title">Job {id}</h1>
        {problem.status === 404 ? (
          <div class="card">
            <EmptyState icon="search" title="There is no such job" action={<ButtonLink href={href("/jobs")}>To the jobs</ButtonLink>}>
              <p>It was deleted, by a person or some time after its end, or the address is not whole.</p>
            </EmptyState>
          </div>
        ) : (
          <ProblemBox problem={problem} />
        )}
      </>
    );
  if (data === null)
    return (
      <>
        <Crumb />
        <h1 class="page-title">Job</h1>
        <div class="card">
          <Skeleton lines={8} label="Loading the job" />
        </div>
      </>
    );
  return <Detail detail={data} />;
}

function Crumb() {
  return (
    <p class="crumb">
      <a href={href("/jobs")}>
        <Icon name="back" size={14} /> Jobs
      </a>
    </p>
  );
}

function Detail({ detail }: { detail: JobDetail }) {
  const { job } = detail;
  const failed = detail.attempts.some(hasFailed);
  return (
    <>
      <Crumb />
      <div class="page-head">
        <div class="title-block">
          <div class="row">
            <h1>{job.type}</h1>
            <StatusBadge status={job.status} scheduled={job.scheduled} />
          </div>
          <Copyable text={job.id} label="Copy the id" />
        </div>
        <div class="page-actions">
          <JobActions detail={detail} />
        </div>
      </div>
      <Explained detail={detail} />
      <div class="detail">
        <div class="stack">
          <Card title="Attempts" hint={attemptsText(job)}>
            {detail.attempts.length === 0 ? <p class="muted">None yet.</p> : <Attempts attempts={detail.attempts} />}
          </Card>
          {failed && (
            <Card title="Errors">
              <AttemptErrors attempts={detail.attempts} />
            </Card>
          )}
          <Card title="Payload" actions={<CopyButton text={JSON.stringify(job.payload, null, 2)} label="Copy the payload" />}>
            <JsonView value={job.payload} label="The payload as JSON" />
          </Card>
          {job.status === "completed" && (
            <Card title="Result" actions={<CopyButton text={JSON.stringify(job.result, null, 2)} label="Copy the result" />}>
              {job.result === null ? <p class="muted">The handler returned nothing.</p> : <JsonView value={job.result} label="The result as JSON" />}
            </Card>
          )}
          {detail.steps.length > 0 && (
            <Card title="Steps" hint="Done once, kept over retries">
              <ol class="steps-done">
                {detail.steps.map((step) => (
                  <li key={step.name}>
                    <details>
                      <summary>
                        <Icon name="check" size={14} />
                        <span class="wrap">{step.name}</span>
                      </summary>
                      <JsonView value={step.result} label={`Result of the step ${step.name}`} />
                    </details>
                  </li>
                ))}
              </ol>
            </Card>
          )}
        </div>
        <div class="stack">
          <Card title="Facts">
            <JobFacts job={job} />
          </Card>
          <Related detail={detail} />
        </div>
      </div>
      <Raw detail={detail} />
    </>
  );
}

function Raw({ detail }: { detail: JobDetail }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="raw" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Everything as JSON</summary>
      {open && <JsonView value={detail} label="The job and all about it" />}
    </details>
  );
}

function attemptsText(job: JobView): string {
  const crashes = job.crashes === 0 ? "" : `, ${plural(job.crashes, "crash", "crashes")}`;
  return `${count(job.attempts)} of ${count(job.maxAttempts)} used${crashes}`;
}

const QUESTIONS: Record<JobView["status"], { question: string; tone: string }> = {
  pending: { question: "Why is it not running?", tone: "accent" },
  processing: { question: "What is it doing?", tone: "busy" },
  completed: { question: "How did it end?", tone: "good" },
  failed: { question: "Why does it not run any more?", tone: "bad" },
  cancelled: { question: "Why does it not run any more?", tone: "off" },
};

function Explained({ detail }: { detail: JobDetail }) {
  const { job } = detail;
  const { question, tone } = QUESTIONS[job.status];
  const progress = job.status === "processing" ? job.progress : null;
  return (
    <section class={`explained tone-${tone}`} aria-label={question}>
      <h2>{question}</h2>
      <p class="explained-text wrap">{capital(detail.explanation)}</p>
      {progress !== null && (
        <div class="explained-progress">
          <Bar fraction={progress.fraction} label="Progress" />
          <p class="wrap">
            <span class="strong">{percent(progress.fraction)}</span> {progress.message}
          </p>
        </div>
      )}
    </section>
  );
}

function JobFacts({ job }: { job: JobView }) {
  return (
    <Facts>
      <Fact name="Queue">
        <a class="wrap" href={href("/jobs", { queue: job.queue })}>
          {job.queue}
        </a>
      </Fact>
      <Fact name="Type">
        <a class="wrap" href={href("/jobs", { type: job.type })}>
          {job.type}
        </a>
      </Fact>
      <Fact name="Priority">{PRIORITIES[job.priority]}</Fact>
      <Fact name="Added">
        <Time at={job.createdAt} />
      </Fact>
      {job.status === "pending" && (job.nextRetryAt ?? job.runAt) !== null && (
        <Fact name={job.nextRetryAt !== null ? "Next attempt" : "Due"}>
          <Time at={job.nextRetryAt ?? job.runAt} />
        </Fact>
      )}
      <Fact name="Last started">
        <Time at={job.processedAt} none="not yet" />
      </Fact>
      {job.completedAt !== null && (
        <Fact name="Ended">
          <Time at={job.completedAt} />
        </Fact>
      )}
      {job.worker !== null && (
        <Fact name="Worker">
          <code class="wrap">{job.worker}</code>
        </Fact>
      )}
      {job.uniqueKey !== null && (
        <Fact name="Unique key">
          <Copyable text={job.uniqueKey} label="Copy the unique key" />
        </Fact>
      )}
      {job.tags.length > 0 && (
        <Fact name="Tags">
          <span class="tags">
            {job.tags.map((tag) => (
              <a key={tag} class="tag wrap" href={href("/jobs", { tag })}>
                {tag}
              </a>
            ))}
          </span>
        </Fact>
      )}
    </Facts>
  );
}

function Related({ detail }: { detail: JobDetail }) {
  const { parent, children, instanceId } = detail;
  if (parent === null && children.length === 0 && instanceId === null) return null;
  return (
    <Card title="Related">
      <div class="stack">
        {instanceId !== null && (
          <div>
            <h3>Instance</h3>
            <a class="wrap" href={href(`/instances/${encodeURIComponent(instanceId)}`)}>
              {instanceId}
            </a>
          </div>
        )}
        {parent !== null && (
          <div>
            <h3>Added by</h3>
            <ul>
              <RelatedJob job={parent} />
            </ul>
          </div>
        )}
        {children.length > 0 && (
          <div>
            <h3>
              Added by this job <Badge>{children.length}</Badge>
            </h3>
            <ul class="related-jobs">
              {children.map((child) => (
                <RelatedJob key={child.id} job={child} />
              ))}
            </ul>
          </div>
        )}
      </div>
    </Card>
  );
}

function RelatedJob({ job }: { job: JobRow }) {
  return (
    <li class="related-job">
      <a class="ellipsis" href={href(`/jobs/${encodeURIComponent(job.id)}`)} title={`${job.type}\n${job.id}`}>
        {job.type}
      </a>
      <StatusBadge status={job.status} scheduled={job.scheduled} />
    </li>
  );
}
