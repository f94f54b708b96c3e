// The live connection of this tab, and its topics as signals.
//
// A stream is read with fetch instead of EventSource: that sees the status of a refusal (401 leads to
// the sign-in), can say where to resume, and leaves the waits between attempts to us.

import { effect, signal, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { noteServerTime } from "./clock.ts";
import { Connection, type Handlers, type State } from "./connection.ts";
import { session, signedOut } from "./session.ts";
import { parser } from "./sse.ts";
import type { Problem } from "./types.ts";

export interface Live<T> {
  /** Null until the first message, and while the topic has a problem. */
  data: T | null;
  problem: Problem | null;
  /** The server's time of the last message. */
  at: string | null;
}

const EMPTY: Live<never> = { data: null, problem: null, at: null };

export const connection = signal<State>({ kind: "connecting" });
const topics = new Map<string, Signal<Live<unknown>>>();

const client = new Connection(
  {
    open,
    now: () => Date.now(),
    later: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: Math.random,
  },
  {
    state: (state) => {
      connection.value = state;
    },
    message: (topic, text) => {
      const found = topics.get(topic);
      if (found === undefined) return;
      const message = JSON.parse(text) as { at: string; data?: unknown; problem?: Problem };
      noteServerTime(message.at);
      found.value = { data: message.data ?? null, problem: message.problem ?? null, at: message.at };
    },
    signedOut,
  },
);

document.addEventListener("visibilitychange", () => client.setVisible(!document.hidden));
addEventListener("online", () => client.retryNow());
addEventListener("offline", () => client.offline());
client.setVisible(!document.hidden);

// Whoever signs in next may not see what the one before did.
effect(() => {
  if (session.value !== null) return;
  topics.clear();
  client.forget();
});

export function retryNow(): void {
  client.retryNow();
}

/** What the server last said of *topic*, as a signal; asks for it while the component is shown. */
export function useLive<T>(topic: string | null): Signal<Live<T>> {
  const found = useMemo(() => {
    if (topic === null) return signal<Live<unknown>>(EMPTY);
    let known = topics.get(topic);
    if (known === undefined) topics.set(topic, (known = signal<Live<unknown>>(EMPTY)));
    return known;
  }, [topic]);
  useEffect(() => {
    if (topic === null) return undefined;
    // It may have been dropped between the rendering and now.
    topics.set(topic, found);
    const leave = client.subscribe(topic);
    return () => {
      leave();
      forgetLater(topic, found);
    };
  }, [topic, found]);
  return found as Signal<Live<T>>;
}

// A page that is left and shown again starts with what it showed; only the latest are kept.
const KEPT = 12;
const left: [string, Signal<Live<unknown>>][] = [];

function forgetLater(topic: string, held: Signal<Live<unknown>>): void {
  const index = left.findIndex(([name]) => name === topic);
  if (index >= 0) left.splice(index, 1);
  left.push([topic, held]);
  while (left.length > KEPT) {
    const [name, old] = left.shift()!;
    if (topics.get(name) !== old || client.asksFor(name)) continue;
    topics.delete(name);
    client.forget();
  }
}

function open(asked: string[], lastId: string | null, handlers: Handlers): () => void {
  const aborter = new AbortController();
  const query = asked.map((topic) => `topic=${encodeURIComponent(topic)}`).join("&");
  const headers: Record<string, string> = { Accept: "text/event-stream" };
  if (lastId !== null) headers["Last-Event-ID"] = lastId;
  void read();
  return () => aborter.abort();

  async function read(): Promise<void> {
    try {
      const answer = await fetch(`/api/live?${query}`, {
        headers,
        signal: aborter.signal,
        cache: "no-store",
      });
      if (!answer.ok || answer.body === null) {
        handlers.closed(answer.status);
        return;
      }
      handlers.opened();
      const feed = parser(handlers.message);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        feed(value);
      }
    } catch {
      // The network failed, or we closed it: then nobody listens any more.
    }
    handlers.closed(null);
  }
}
