import { now } from "../clock.ts";
import { exactTimes } from "../times.ts";
import { absolute, duration, relative } from "../format.ts";

/** "3 min ago"; the date and the time are in its title, or shown instead when that was chosen. */
export function Time({ at, none = "–" }: { at: string | null | undefined; none?: string }) {
  if (at === null || at === undefined) return <span class="muted">{none}</span>;
  const then = Date.parse(at);
  return (
    <time dateTime={at} title={absolute(then)}>
      {exactTimes.value ? absolute(then) : relative(then, now.value)}
    </time>
  );
}

/** How long it has been since *at*: "2 min 5 s". */
export function Since({ at, none = "–" }: { at: string | null | undefined; none?: string }) {
  if (at === null || at === undefined) return <span class="muted">{none}</span>;
  const then = Date.parse(at);
  return (
    <time dateTime={at} title={absolute(then)}>
      {duration(Math.round((now.value - then) / 1000))}
    </time>
  );
}
