// A payload that is edited: what is hidden in it, and what an edit does to that. Pure.

/** What the server shows in the place of a value that is not to be seen. */
export const REDACTED = "[redacted]";

/** The places of hidden values, such as "card.number" or "to[0].token". */
export function redactedPaths(value: unknown): string[] {
  return paths(value, (one) => one === REDACTED);
}

/** The places of numbers that JavaScript has rounded: sent back they would be others. */
export function roundedPaths(value: unknown): string[] {
  return paths(value, (one) => typeof one === "number" && Number.isInteger(one) && !Number.isSafeInteger(one));
}

function paths(value: unknown, wanted: (value: unknown) => boolean, at = ""): string[] {
  if (wanted(value)) return [at];
  if (Array.isArray(value)) return value.flatMap((item, index) => paths(item, wanted, `${at}[${index}]`));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => paths(item, wanted, step(at, key)));
}

function step(at: string, key: string): string {
  if (!/^[\w$-]+$/u.test(key)) return `${at}[${JSON.stringify(key)}]`;
  return at === "" ? key : `${at}.${key}`;
}

export interface Edit {
  /** Why it cannot be sent. */
  error: string | null;
  value: unknown;
  /** Hidden values that stay, and that are replaced or removed. */
  kept: string[];
  lost: string[];
}

/** What *text*, edited from *original*, means. */
export function editOf(original: unknown, text: string): Edit {
  const before = redactedPaths(original);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { error: `Not JSON: ${error instanceof Error ? error.message : String(error)}`, value: undefined, kept: [], lost: [] };
  }
  const after = redactedPaths(value);
  // Elements of a list may have moved: whose value is meant there, the server finds out.
  const places = new Set(before.map(anyElement));
  const invented = after.filter((path) => !places.has(anyElement(path)));
  const rounded = roundedPaths(value);
  return {
    error:
      invented.length > 0
        ? `Nothing is hidden at ${named(invented)}: ${REDACTED} would become the value there.`
        : rounded.length > 0
          ? `The number at ${named(rounded)} is too long for a browser, which would change it. Retry it from the command line.`
          : null,
    value,
    kept: before.filter((path) => after.includes(path)),
    lost: before.filter((path) => !after.includes(path)),
  };
}

function anyElement(path: string): string {
  return path.replace(/\[\d+\]/g, "[]");
}

function named(found: string[]): string {
  const shown = found.slice(0, 3).map((path) => (path === "" ? "the top" : path));
  return found.length > 3 ? `${shown.join(", ")} and ${found.length - 3} more` : shown.join(", ");
}
