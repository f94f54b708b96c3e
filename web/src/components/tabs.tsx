import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface Choice<T extends string> {
  value: T;
  label: ComponentChildren;
}

interface TabsProps<T extends string> {
  label: string;
  choices: Choice<T>[];
  value: T;
  onChange: (value: T) => void;
  children: ComponentChildren;
}

/** Tabs over one panel. Arrows move between them. */
export function Tabs<T extends string>({ label, choices, value, onChange, children }: TabsProps<T>) {
  const id = useId();
  function onKeyDown(event: KeyboardEvent): void {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    const index = choices.findIndex((choice) => choice.value === value);
    const next = choices[(index + step + choices.length) % choices.length]!;
    onChange(next.value);
    document.getElementById(`${id}-${next.value}`)?.focus();
    event.preventDefault();
  }
  return (
    <div class="tabs">
      <div class="tab-list" role="tablist" aria-label={label} onKeyDown={onKeyDown}>
        {choices.map((choice) => (
          <button
            key={choice.value}
            id={`${id}-${choice.value}`}
            type="button"
            role="tab"
            aria-selected={choice.value === value}
            aria-controls={`${id}-panel`}
            tabIndex={choice.value === value ? 0 : -1}
            onClick={() => onChange(choice.value)}
          >
            {choice.label}
          </button>
        ))}
      </div>
      <div id={`${id}-panel`} role="tabpanel" aria-labelledby={`${id}-${value}`} tabIndex={0}>
        {children}
      </div>
    </div>
  );
}

/** One of a few, as a row of buttons; radio buttons to the keyboard. */
export function Segments<T extends string>({ label, choices, value, onChange }: Omit<TabsProps<T>, "children">) {
  const name = useId();
  return (
    <fieldset class="segments">
      <legend class="visually-hidden">{label}</legend>
      {choices.map((choice) => (
        <label key={choice.value}>
          <input
            type="radio"
            name={name}
            value={choice.value}
            checked={choice.value === value}
            onChange={() => onChange(choice.value)}
          />
          <span>{choice.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
