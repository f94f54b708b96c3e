// What stands where data is not: nothing there, not yet there, or not to be had.

import type { ComponentChildren } from "preact";
import type { Problem } from "../types.ts";
import { Icon, type IconName } from "./icons.tsx";

/** Says that there is nothing, and how there could be something. */
export function EmptyState({ icon = "info", title, children, action }: { icon?: IconName; title: string; children?: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={icon} size={22} />
      </span>
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
      {action}
    </div>
  );
}

/** Grey lines in the place of what is on its way. */
export function Skeleton({ lines = 3, label = "Loading" }: { lines?: number; label?: string }) {
  return (
    <div class="skeleton" role="status">
      <span class="visually-hidden">{label}</span>
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} class="skeleton-line" aria-hidden="true" />
      ))}
    </div>
  );
}

/** What the server says went wrong, with the id to ask for. */
export function ProblemBox({ problem }: { problem: Problem }) {
  return (
    <div class="problem" role="alert">
      <Icon name="warning" />
      <div>
        <p class="strong">{problem.title}</p>
        {problem.detail && <p>{problem.detail}</p>}
        {problem.requestId && <p class="muted small">Request {problem.requestId}</p>}
      </div>
    </div>
  );
}

/** A command or some code to copy. */
export function Code({ children }: { children: string }) {
  return (
    <pre class="code" tabIndex={0}>
      <code>{children}</code>
    </pre>
  );
}
