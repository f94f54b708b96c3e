/** A fraction as a bar; the words beside it say the same. */
export function Bar({ fraction, label, tone = "accent" }: { fraction: number; label: string; tone?: "accent" | "good" | "warn" | "bad" }) {
  const percent = Math.round(Math.min(1, Math.max(0, fraction)) * 1000) / 10;
  return (
    <div class={`bar bar-${tone}`} role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(percent)}>
      <span style={{ width: `${percent}%` }} />
    </div>
  );
}
