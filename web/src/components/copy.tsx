import { useEffect, useState } from "preact/hooks";
import { toast } from "../toasts.ts";
import { Button } from "./button.tsx";

const SHOWN_MS = 1_600;

/** Copies *text*; says for a moment that it has. */
export function CopyButton({ text, label, children }: { text: string; label: string; children?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  async function copy(event: MouseEvent): Promise<void> {
    if (await write(text, event.currentTarget as HTMLElement)) setCopied(true);
    else toast("error", "The browser does not let this page copy.");
  }
  return (
    <Button
      kind="quiet"
      small
      icon={copied ? "check" : "copy"}
      label={children === undefined ? (copied ? "Copied" : label) : undefined}
      onClick={(event) => void copy(event)}
    >
      {children === undefined ? undefined : copied ? "Copied" : children}
    </Button>
  );
}

async function write(text: string, beside: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain http has no clipboard: copy a selection, as of old. Beside the button, for a modal dialog
    // lets nothing outside it be selected.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    beside.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    beside.focus();
    return done;
  }
}

/** An id or an address: in full to the eye that has room, and to be copied. */
export function Copyable({ text, label }: { text: string; label: string }) {
  return (
    <span class="copyable">
      <code class="wrap">{text}</code>
      <CopyButton text={text} label={label} />
    </span>
  );
}
