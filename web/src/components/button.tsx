import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icons.tsx";

type Kind = "plain" | "primary" | "danger" | "quiet";

interface Look {
  kind?: Kind;
  small?: boolean;
  icon?: IconName;
  /** For a button that is an icon only: its name. Shown on hover too. */
  label?: string;
  children?: ComponentChildren;
}

type ButtonProps = Look & {
  busy?: boolean;
  disabled?: boolean;
  type?: "button" | "submit";
  onClick?: (event: MouseEvent) => void;
  id?: string;
  form?: string;
  autoFocus?: boolean;
  "aria-expanded"?: boolean;
  "aria-haspopup"?: "menu" | "dialog";
  "aria-pressed"?: boolean;
  "aria-controls"?: string;
  buttonRef?: { current: HTMLButtonElement | null };
};

/** A busy button keeps its place, its words and the focus (a disabled one would lose it), and does nothing. */
export function Button({ kind = "plain", small, icon, label, children, busy, disabled, type = "button", buttonRef, onClick, ...rest }: ButtonProps) {
  return (
    <button
      {...rest}
      ref={buttonRef}
      type={type}
      class={look(kind, small, icon, children)}
      disabled={disabled}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
      aria-label={label}
      title={label}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon !== undefined && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** Looks like a button and leads somewhere. */
export function ButtonLink({ kind = "plain", small, icon, label, children, href }: Look & { href: string }) {
  return (
    <a class={look(kind, small, icon, children)} href={href} aria-label={label} title={label}>
      {icon !== undefined && <Icon name={icon} />}
      {children}
    </a>
  );
}

function look(kind: Kind, small: boolean | undefined, icon: IconName | undefined, children: unknown): string {
  const bare = icon !== undefined && (children === undefined || children === null);
  return `button button-${kind}${small ? " button-small" : ""}${bare ? " button-icon" : ""}`;
}
