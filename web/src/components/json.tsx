import { useMemo } from "preact/hooks";
import { Textarea } from "./field.tsx";

/** A value as indented JSON. It is text: nothing in it is ever markup. */
export function JsonView({ value, label }: { value: unknown; label: string }) {
  const text = useMemo(() => JSON.stringify(value, null, 2) ?? "null", [value]);
  return (
    <pre class="code json" tabIndex={0} role="region" aria-label={label}>
      {text}
    </pre>
  );
}

/** What is wrong with *text* as JSON, or null. */
export function jsonError(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error instanceof Error ? `Not JSON: ${error.message}` : "Not JSON";
  }
}

/** Edits JSON as text and says at once when it is none. */
export function JsonEditor({ label, value, onChange, hint, error, rows = 12 }: { label: string; value: string; onChange: (text: string) => void; hint?: string; error?: string | null; rows?: number }) {
  return <Textarea label={label} hint={hint} mono rows={rows} value={value} onChange={onChange} error={error ?? jsonError(value)} />;
}
