import { dismiss, toasts } from "../toasts.ts";
import { Button } from "./button.tsx";
import { Icon } from "./icons.tsx";

const ICONS = { done: "check", error: "warning", info: "info" } as const;

export function ToastHost() {
  return (
    <div class="toasts" role="status" aria-live="polite" aria-relevant="additions">
      {toasts.value.map((one) => (
        <div key={one.id} class={`toast toast-${one.kind}`}>
          <Icon name={ICONS[one.kind]} />
          <span>{one.text}</span>
          <Button kind="quiet" small icon="close" label="Dismiss" onClick={() => dismiss(one.id)} />
        </div>
      ))}
    </div>
  );
}
