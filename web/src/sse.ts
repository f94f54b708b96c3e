// Server-sent events out of chunks of text. Pure.

export interface Message {
  event: string;
  data: string;
  id: string | null;
}

/** Feed it chunks as they come; it calls *emit* for each complete message. */
export function parser(emit: (message: Message) => void): (chunk: string) => void {
  let rest = "";
  let event = "";
  let id: string | null = null;
  let data: string[] = [];

  function line(text: string): void {
    if (text === "") {
      if (data.length > 0) emit({ event: event || "message", data: data.join("\n"), id });
      event = "";
      data = [];
      id = null;
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  }

  return (chunk) => {
    rest += chunk;
    // A \r at the very end may be half of \r\n, so it waits for the next chunk.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const text of lines) line(text);
  };
}
