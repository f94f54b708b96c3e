import assert from "node:assert/strict";
import { test } from "node:test";
import { parser, type Message } from "../src/sse.ts";

function read(...chunks: string[]): Message[] {
  const messages: Message[] = [];
  const feed = parser((message) => messages.push(message));
  for (const chunk of chunks) feed(chunk);
  return messages;
}

test("messages are whole however the text is cut", () => {
  const text = 'event: job/1\r\nid: 7\r\ndata: {"a":\r\ndata: 1}\r\n\r\n: a comment\nevent: beat\ndata: x\n\n';
  const expected = [
    { event: "job/1", data: '{"a":\n1}', id: "7" },
    { event: "beat", data: "x", id: null },
  ];
  assert.deepEqual(read(text), expected);
  assert.deepEqual(read(...text), expected);
});

test("an event's name is taken as it was asked for", () => {
  assert.equal(read("event: jobs?status=failed&type=a%3Ab\ndata: 1\n\n")[0]?.event, "jobs?status=failed&type=a%3Ab");
});

test("a message without data, or not yet ended, is none", () => {
  assert.deepEqual(read("event: x\n\n", "data: 1\n"), []);
});
