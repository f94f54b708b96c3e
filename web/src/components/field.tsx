import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  error?: string | null;
  /** The label is for screen readers only: where the place says it, as in a filter bar. */
  hideLabel?: boolean;
  class?: string;
}

interface Wiring {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean | undefined;
}

/** Label, hint and error of one control, tied to it. */
export function Field({ label, hint, error, hideLabel, class: extra, children }: FieldProps & { children: (wiring: Wiring) => ComponentChildren }) {
  const id = useId();
  const described = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div class={`field${extra ? ` ${extra}` : ""}`}>
      <label for={id} class={hideLabel ? "visually-hidden" : undefined}>
        {label}
      </label>
      {children({ id, "aria-describedby": described || undefined, "aria-invalid": error ? true : undefined })}
      {hint && (
        <p class="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p class="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

interface Value<T> {
  value: T;
  onChange: (value: T) => void;
  name?: string;
  required?: boolean;
  disabled?: boolean;
}

interface InputExtra {
  type?: "text" | "search" | "password" | "number" | "url" | "datetime-local";
  min?: number;
  max?: number;
  step?: number;
  maxLength?: number;
  pattern?: string;
  placeholder?: string;
  autoComplete?: string;
  list?: string;
  inputRef?: { current: HTMLInputElement | null };
  onKeyDown?: (event: KeyboardEvent) => void;
  "data-search"?: boolean;
}

export function Input(props: FieldProps & Value<string> & InputExtra) {
  const { label, hint, error, hideLabel, class: extra, value, onChange, inputRef, type = "text", ...rest } = props;
  return (
    <Field label={label} hint={hint} error={error} hideLabel={hideLabel} class={extra}>
      {(wiring) => (
        <input
          {...rest}
          {...wiring}
          ref={inputRef}
          type={type as "text"} // the types of preact tie a role to each type of input
          class="input"
          value={value}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

export interface Option {
  value: string;
  label: string;
  disabled?: boolean;
}

export function Select(props: FieldProps & Value<string> & { options: Option[] }) {
  const { label, hint, error, hideLabel, class: extra, value, onChange, options, ...rest } = props;
  return (
    <Field label={label} hint={hint} error={error} hideLabel={hideLabel} class={extra}>
      {(wiring) => (
        <select {...rest} {...wiring} class="input" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
          {options.map((option) => (
            <option key={option.value} value={option.value} disabled={option.disabled} selected={option.value === value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

export function Textarea(props: FieldProps & Value<string> & { rows?: number; mono?: boolean }) {
  const { label, hint, error, hideLabel, class: extra, value, onChange, mono, rows = 6, ...rest } = props;
  return (
    <Field label={label} hint={hint} error={error} hideLabel={hideLabel} class={extra}>
      {(wiring) => (
        <textarea
          {...rest}
          {...wiring}
          rows={rows}
          class={`input${mono ? " mono" : ""}`}
          spellcheck={false}
          value={value}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

export function Checkbox({ label, checked, onChange, hideLabel, indeterminate }: { label: string; checked: boolean; onChange: (checked: boolean) => void; hideLabel?: boolean; indeterminate?: boolean }) {
  return (
    <label class="checkbox">
      <input
        type="checkbox"
        checked={checked}
        indeterminate={indeterminate}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <span class={hideLabel ? "visually-hidden" : undefined}>{label}</span>
    </label>
  );
}
