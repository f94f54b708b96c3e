import type { ComponentChildren } from "preact";

/** What is known of a thing: names, and what they stand for. */
export function Facts({ tight, children }: { tight?: boolean; children: ComponentChildren }) {
  return <dl class={tight ? "facts facts-tight" : "facts"}>{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="wrap">{children}</dd>
    </div>
  );
}
