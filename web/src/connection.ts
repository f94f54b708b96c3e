// One live connection for all topics of a tab: what it asks for, when it is given up for lost, and
// when it tries again. Network and timers are passed in, so that tests need neither.

import type { Message } from "./sse.ts";

export type State =
  | { kind: "connecting" }
  | { kind: "connected" }
  /** *retryAt* is in milliseconds of the given clock. */
  | { kind: "lost"; retryAt: number; attempts: number };

export interface Handlers {
  opened(): void;
  message(message: Message): void;
  /** *status* is that of an answer which was no stream; null when there was none, or it ended. */
  closed(status: number | null): void;
}

export interface World {
  /** Opens a stream and returns what closes it; *lastId* resumes the same topics. */
  open(topics: string[], lastId: string | null, handlers: Handlers): () => void;
  now(): number;
  /** Calls *run* after *ms* and returns what prevents it. */
  later(ms: number, run: () => void): () => void;
  random(): number;
}

export interface Listener {
  state(state: State): void;
  message(topic: string, data: string): void;
  signedOut(): void;
}

/** The server sends a beat every 10 s; two may be late. */
export const SILENCE_MS = 25_000;
const SETTLE_MS = 30;
const BACKOFF_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

export class Connection {
  readonly #world: World;
  readonly #listener: Listener;
  readonly #topics = new Map<string, number>();
  #visible = true;
  #asked: string[] = [];
  #lastId: string | null = null;
  #close: (() => void) | null = null;
  #timer: (() => void) | null = null;
  #watchdog: (() => void) | null = null;
  #attempts = 0;

  constructor(world: World, listener: Listener) {
    this.#world = world;
    this.#listener = listener;
  }

  /** Ask for *topic* until the returned function is called. Several may ask for the same. */
  subscribe(topic: string): () => void {
    this.#topics.set(topic, (this.#topics.get(topic) ?? 0) + 1);
    this.#changed();
    let active = true;
    return () => {
      if (!active) return;
      active = false;
      const left = (this.#topics.get(topic) ?? 1) - 1;
      if (left > 0) this.#topics.set(topic, left);
      else this.#topics.delete(topic);
      this.#changed();
    };
  }

  asksFor(topic: string): boolean {
    return this.#topics.has(topic);
  }

  /** What was heard is not held any more: the next stream asks for everything. */
  forget(): void {
    this.#lastId = null;
  }

  /** A hidden tab holds no connection; it asks again when it is shown. */
  setVisible(visible: boolean): void {
    if (visible === this.#visible) return;
    this.#visible = visible;
    if (visible) this.retryNow();
    else this.#stop();
  }

  /** Try at once instead of at the end of the wait. */
  retryNow(): void {
    this.#attempts = 0;
    this.#start();
  }

  /** The network is gone: do not wait for the silence to tell. */
  offline(): void {
    if (this.#close !== null) this.#lost(null);
  }

  #changed(): void {
    // Pages unsubscribe and subscribe in the same moment; one connection is made for both. A wait
    // after a loss goes on: what is asked for is read when it ends.
    if (this.#timer !== null && this.#close === null && this.#attempts > 0) return;
    this.#cancelTimer();
    this.#timer = this.#world.later(SETTLE_MS, () => {
      this.#timer = null;
      if (this.#close === null || !same(this.#asked, this.#wanted())) this.#start();
    });
  }

  #wanted(): string[] {
    return [...this.#topics.keys()].sort();
  }

  #start(): void {
    this.#stop();
    const topics = this.#wanted();
    if (!this.#visible || topics.length === 0) return;
    // An id says what was seen of the topics it came with; other topics have to come in full.
    if (!same(this.#asked, topics)) this.#lastId = null;
    this.#asked = topics;
    let current = true;
    const close = this.#world.open(topics, this.#lastId, {
      opened: () => {
        if (!current) return;
        this.#attempts = 0;
        this.#heard();
        this.#listener.state({ kind: "connected" });
      },
      message: (message) => {
        if (!current) return;
        this.#heard();
        if (message.id !== null) this.#lastId = message.id;
        if (message.event !== "beat") this.#listener.message(message.event, message.data);
      },
      closed: (status) => {
        if (current) this.#lost(status);
      },
    });
    this.#close = () => {
      current = false;
      close();
    };
    this.#heard();
  }

  #heard(): void {
    this.#watchdog?.();
    this.#watchdog = this.#world.later(SILENCE_MS, () => this.#lost(null));
  }

  #lost(status: number | null): void {
    this.#stop();
    if (status === 401) {
      this.#listener.signedOut();
      return;
    }
    const base = BACKOFF_MS[Math.min(this.#attempts, BACKOFF_MS.length - 1)]!;
    // Spread, so that the tabs of many viewers do not all come back in the same moment.
    const wait = Math.round(base * (1 + this.#world.random() * 0.3));
    this.#attempts += 1;
    this.#listener.state({
      kind: "lost",
      retryAt: this.#world.now() + wait,
      attempts: this.#attempts,
    });
    this.#timer = this.#world.later(wait, () => {
      this.#timer = null;
      this.#start();
    });
  }

  #stop(): void {
    this.#cancelTimer();
    this.#watchdog?.();
    this.#watchdog = null;
    this.#close?.();
    this.#close = null;
  }

  #cancelTimer(): void {
    this.#timer?.();
    this.#timer = null;
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}
