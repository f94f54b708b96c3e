// Hash routes: "#/jobs?status=failed" <-> {path, query}. Pure.

export interface Route {
  /** Such as "/jobs/0193". */
  path: string;
  query: Record<string, string>;
}

export type Query = Record<string, string | number | null | undefined>;

export function parseHash(hash: string): Route {
  const text = hash.replace(/^#/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const query = Object.fromEntries(new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)));
  return { path: `/${path.replace(/^\/+|\/+$/g, "")}`, query };
}

/** The hash of a route. Empty values are left out, keys are sorted: one view has one address. */
export function href(path: string, query: Query = {}): string {
  const search = encodeQuery(query);
  return `#${path}${search === "" ? "" : `?${search}`}`;
}

/** Sorted and encoded, without empty values; what the topics of the live connection are named by. */
export function encodeQuery(query: Query): string {
  const pairs = Object.entries(query)
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([key, value]) => [key, String(value)])
    .sort(([a], [b]) => (a! < b! ? -1 : 1));
  return new URLSearchParams(pairs).toString();
}

/** The parameters of *path* by *pattern* ("/jobs/:id"), or null when it is another page. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const found: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index]!;
    if (part.startsWith(":")) {
      const decoded = decode(value);
      if (decoded === null || decoded === "") return null;
      found[part.slice(1)] = decoded;
    } else if (part !== value) return null;
  }
  return found;
}

function decode(value: string): string | null {
  try {
    return decodeURIComponent(value);
  } catch {
    return null; // a stray % in an address that somebody typed
  }
}
