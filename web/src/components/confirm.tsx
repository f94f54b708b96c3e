// "Really?" as a promise: `if (await confirm({...})) …`. The one host stands in the shell.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { route } from "../router.ts";
import { Button } from "./button.tsx";
import { Dialog } from "./dialog.tsx";

interface Question {
  title: string;
  /** What will happen, in plain words. */
  text: ComponentChildren;
  /** The verb on the button: "Pause queue". */
  action: string;
  danger?: boolean;
}

const asked = signal<(Question & { answer: (yes: boolean) => void }) | null>(null);

export function confirm(question: Question): Promise<boolean> {
  asked.value?.answer(false);
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (yes) => {
        asked.value = null;
        resolve(yes);
      },
    };
  });
}

export function ConfirmHost() {
  const question = asked.value;
  const { path } = route.value;
  // Who leaves the page, or is signed out, has not said yes; whoever comes next is not asked.
  useEffect(() => () => asked.value?.answer(false), [path]);
  return (
    <Dialog
      open={question !== null}
      onClose={() => question?.answer(false)}
      title={question?.title ?? ""}
      footer={
        question && (
          <>
            <Button autoFocus={question.danger} onClick={() => question.answer(false)}>Keep as it is</Button>
            <Button kind={question.danger ? "danger" : "primary"} autoFocus={!question.danger} onClick={() => question.answer(true)}>
              {question.action}
            </Button>
          </>
        )
      }
    >
      {question?.text}
    </Dialog>
  );
}
