import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection, SILENCE_MS, type Handlers, type State } from "../src/connection.ts";

interface Opened {
  topics: string[];
  lastId: string | null;
  handlers: Handlers;
  closed: boolean;
}

/** A world whose time moves when the test says so, and whose streams are the test's. */
class Fake {
  time = 0;
  opened: Opened[] = [];
  states: State[] = [];
  messages: [string, string][] = [];
  signedOut = 0;
  #timers: { at: number; run: () => void }[] = [];
  readonly connection = new Connection(
    {
      open: (topics, lastId, handlers) => {
        const stream = { topics, lastId, handlers, closed: false };
        this.opened.push(stream);
        return () => {
          stream.closed = true;
        };
      },
      now: () => this.time,
      later: (ms, run) => {
        const timer = { at: this.time + ms, run };
        this.#timers.push(timer);
        return () => {
          this.#timers = this.#timers.filter((one) => one !== timer);
        };
      },
      random: () => 0,
    },
    {
      state: (state) => this.states.push(state),
      message: (topic, data) => this.messages.push([topic, data]),
      signedOut: () => {
        this.signedOut += 1;
      },
    },
  );

  pass(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.time = next.at;
      next.run();
    }
    this.time = end;
  }

  get stream(): Opened {
    return this.opened.at(-1)!;
  }

  get state(): State | undefined {
    return this.states.at(-1);
  }

  connect(...topics: string[]): () => void {
    const leaves = topics.map((topic) => this.connection.subscribe(topic));
    this.pass(100);
    this.stream.handlers.opened();
    return () => leaves.forEach((leave) => leave());
  }
}

test("topics asked for in the same moment share one stream", () => {
  const fake = new Fake();
  fake.connect("shell", "overview", "shell");

  assert.equal(fake.opened.length, 1);
  assert.deepEqual(fake.stream.topics, ["overview", "shell"]);
  assert.deepEqual(fake.state, { kind: "connected" });
});

test("another page: the old stream is closed and the new one asks for everything", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.stream.handlers.message({ event: "shell", data: "1", id: "9" });
  const old = fake.stream;
  fake.connect("jobs");

  assert.ok(old.closed);
  assert.deepEqual(fake.stream.topics, ["jobs", "shell"]);
  assert.equal(fake.stream.lastId, null);
  old.handlers.message({ event: "shell", data: "late", id: "10" });
  assert.deepEqual(fake.messages, [["shell", "1"]]);
});

test("a topic that is left and asked for again at once costs nothing", () => {
  const fake = new Fake();
  const leave = fake.connect("shell");
  leave();
  fake.connection.subscribe("shell");
  fake.pass(1_000);

  assert.equal(fake.opened.length, 1);
});

test("a lost stream is opened again after growing waits and resumes where it was", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.stream.handlers.message({ event: "shell", data: "1", id: "9" });
  const waits: number[] = [];
  for (let n = 0; n < 7; n += 1) {
    const before = fake.time;
    fake.stream.handlers.closed(null);
    const state = fake.state;
    assert.ok(state?.kind === "lost");
    waits.push(state.retryAt - before);
    fake.pass(state.retryAt - before);
    assert.equal(fake.stream.lastId, "9");
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);

  fake.stream.handlers.opened();
  assert.deepEqual(fake.state, { kind: "connected" });
  fake.stream.handlers.closed(null);
  assert.ok(fake.state?.kind === "lost" && fake.state.retryAt - fake.time === 1_000);
});

test("what is not held any more is asked for in full", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.stream.handlers.message({ event: "shell", data: "1", id: "9" });
  fake.connection.forget();
  fake.stream.handlers.closed(null);
  fake.pass(1_000);

  assert.equal(fake.stream.lastId, null);
});

test("silence is a loss, beats are not", () => {
  const fake = new Fake();
  fake.connect("shell");
  for (let n = 0; n < 10; n += 1) {
    fake.pass(10_000);
    fake.stream.handlers.message({ event: "beat", data: "", id: null });
  }
  assert.deepEqual(fake.state, { kind: "connected" });
  assert.deepEqual(fake.messages, []);

  fake.pass(SILENCE_MS);
  assert.equal(fake.state?.kind, "lost");
  assert.ok(fake.opened[0]!.closed);
});

test("a hidden tab has no stream, and gets one when it is shown", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.connection.setVisible(false);
  assert.ok(fake.stream.closed);
  fake.pass(120_000);
  assert.equal(fake.opened.length, 1);

  fake.connection.setVisible(true);
  assert.equal(fake.opened.length, 2);
});

test("a 401 ends the session and is not tried again", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.stream.handlers.closed(401);
  fake.pass(60_000);

  assert.equal(fake.signedOut, 1);
  assert.equal(fake.opened.length, 1);
});

test("a page that is opened while the connection is lost waits with it", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.stream.handlers.closed(503);
  fake.connection.subscribe("jobs");
  fake.pass(900);
  assert.equal(fake.opened.length, 1);
  fake.pass(200);
  assert.deepEqual(fake.stream.topics, ["jobs", "shell"]);
});

test("a network that is gone is known at once, and tried at once when it is back", () => {
  const fake = new Fake();
  fake.connect("shell");
  fake.connection.offline();
  assert.equal(fake.state?.kind, "lost");
  fake.connection.retryNow();
  assert.equal(fake.opened.length, 2);
});
