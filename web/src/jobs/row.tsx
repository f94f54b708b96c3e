import { now } from "../clock.ts";
import { Badge, StatusBadge } from "../components/badge.tsx";
import { Bar } from "../components/bar.tsx";
import { Since, Time } from "../components/time.tsx";
import { duration, percent, plural, shortCount } from "../format.ts";
import { href } from "../router.ts";
import type { JobRow, Priority } from "../types.ts";

/** Pixels; on a phone a row is a card. */
export const ROW_HEIGHT = { wide: 58, narrow: 112 };

/** In a row; all are in its title, and on the page of the job. */
const TAGS_MOST = 6;

export const PRIORITIES: Record<Priority, string> = { 1: "low", 2: "normal", 3: "high", 4: "critical" };

export function JobsHead() {
  return (
    <div role="row" class="job-row job-head">
      <span role="columnheader">Status</span>
      <span role="columnheader">Job</span>
      <span role="columnheader">What happened</span>
      <span role="columnheader">Queue</span>
      <span role="columnheader">Attempts</span>
      <span role="columnheader" class="end">
        Waited
      </span>
      <span role="columnheader" class="end">
        Ran
      </span>
      <span role="columnheader" class="end">
        Added
      </span>
    </div>
  );
}

export function JobsRow({ job, index }: { job: JobRow; index: number }) {
  return (
    <div role="row" class="job-row" aria-rowindex={index + 2}>
      <span role="cell" class="job-status">
        <StatusBadge status={job.status} scheduled={job.scheduled} />
      </span>
      <span role="cell" class="job-name">
        <span class="job-line">
          <a class="job-link ellipsis" href={href(`/jobs/${encodeURIComponent(job.id)}`)} title={`${job.type}\n${job.id}`}>
            {job.type}
          </a>
          {job.tags.length > 0 && (
            <span class="job-tags" title={job.tags.join("\n")}>
              {job.tags.slice(0, TAGS_MOST).map((tag) => (
                <span key={tag} class="tag ellipsis">
                  {tag}
                </span>
              ))}
            </span>
          )}
        </span>
        <code class="job-preview ellipsis" title={job.preview}>
          {job.preview}
        </code>
      </span>
      <span role="cell" class="job-news">
        <News job={job} />
      </span>
      <span role="cell" class="job-queue">
        <span class="ellipsis" title={job.queue}>
          {job.queue}
        </span>
        {job.priority !== 2 && <span class={`job-priority priority-${job.priority}`}>{PRIORITIES[job.priority]}</span>}
      </span>
      <span role="cell" class="job-attempts">
        <span>
          {shortCount(job.attempts)} of {shortCount(job.maxAttempts)}
        </span>
        {job.crashes > 0 && <span class="job-crashes">{plural(job.crashes, "crash", "crashes")}</span>}
      </span>
      <span role="cell" class="job-wait end">
        <Wait job={job} />
      </span>
      <span role="cell" class="job-ran end">
        <Ran job={job} />
      </span>
      <span role="cell" class="job-age end">
        <Time at={job.createdAt} />
      </span>
    </div>
  );
}

function News({ job }: { job: JobRow }) {
  if (job.progress !== null && job.status === "processing")
    return (
      <>
        <Bar fraction={job.progress.fraction} label="Progress" />
        <span class="ellipsis small muted" title={job.progress.message}>
          {percent(job.progress.fraction)} {job.progress.message}
        </span>
      </>
    );
  return (
    <>
      {job.error !== null && (
        <span class="job-error" title={job.error}>
          {job.error}
        </span>
      )}
      {job.cancelled && job.status === "processing" && <Badge tone="warn">cancelling</Badge>}
      {job.status === "pending" && job.dueAt !== null && (job.scheduled || job.error === null) && (
        <span class="muted small ellipsis">
          due <Time at={job.dueAt} />
        </span>
      )}
      {job.error === null && job.status !== "processing" && !job.scheduled && job.uniqueKey !== null && (
        <span class="muted small ellipsis" title={`Unique key ${job.uniqueKey}`}>
          key {job.uniqueKey}
        </span>
      )}
      {job.status === "processing" && job.worker !== null && (
        <span class="muted small ellipsis" title={job.worker}>
          on {job.worker}
        </span>
      )}
    </>
  );
}

/** How long it has been ready, or was until its only attempt; later attempts are on its own page. */
function Wait({ job }: { job: JobRow }) {
  if (job.status === "pending") {
    const ready = job.dueAt ?? job.createdAt;
    return job.scheduled || Date.parse(ready) > now.value ? <None /> : <Since at={ready} />;
  }
  if (job.processedAt === null || job.attempts > 1) return <None />;
  const ready = Math.max(Date.parse(job.createdAt), Date.parse(job.dueAt ?? job.createdAt));
  return <>{duration(Math.max(0, Date.parse(job.processedAt) - ready) / 1000)}</>;
}

function Ran({ job }: { job: JobRow }) {
  if (job.processedAt === null || job.status === "pending") return <None />;
  if (job.completedAt === null) return job.status === "processing" ? <Since at={job.processedAt} /> : <None />;
  return <>{duration(Math.max(0, Date.parse(job.completedAt) - Date.parse(job.processedAt)) / 1000)}</>;
}

function None() {
  return <span class="muted">–</span>;
}
