import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface CardProps {
  title?: ComponentChildren;
  /** Beside the title. */
  hint?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  /** Without padding: for tables that reach the edge. */
  flush?: boolean;
  class?: string;
  level?: 2 | 3;
}

/** A section of a page, named by its title. */
export function Card({ title, hint, actions, children, flush, class: extra, level = 2 }: CardProps) {
  const id = useId();
  const Heading = `h${level}` as "h2" | "h3";
  return (
    <section class={`card${flush ? " card-flush" : ""}${extra ? ` ${extra}` : ""}`} aria-labelledby={title ? id : undefined}>
      {title && (
        <header class="card-head">
          <Heading id={id}>{title}</Heading>
          {hint && <span class="muted">{hint}</span>}
          {actions && <div class="card-actions">{actions}</div>}
        </header>
      )}
      <div class="card-body">{children}</div>
    </section>
  );
}

/** The top of a page: its only h1, what it is about, what can be done. */
export function PageHead({ title, lead, actions }: { title: ComponentChildren; lead?: ComponentChildren; actions?: ComponentChildren }) {
  return (
    <div class="page-head">
      <div>
        <h1>{title}</h1>
        {lead && <p class="muted">{lead}</p>}
      </div>
      {actions && <div class="page-actions">{actions}</div>}
    </div>
  );
}
