// The address bar as a signal.

import { signal } from "@preact/signals";
import { href, parseHash, type Query, type Route } from "./route.ts";

export { href } from "./route.ts";

export const route = signal<Route>(parseHash(location.hash));

addEventListener("hashchange", () => {
  route.value = parseHash(location.hash);
});

/** Go to another page; the back button returns. */
export function go(path: string, query: Query = {}): void {
  location.hash = href(path, query);
}

/** Change the query of this page. Filters replace the entry, so that back leaves the page. */
export function setQuery(changes: Query): void {
  const hash = href(route.value.path, { ...route.value.query, ...changes });
  if (hash === href(route.value.path, route.value.query)) return;
  history.replaceState(null, "", hash);
  route.value = parseHash(hash);
}

/** Replace this page: what stood in the address is not to be found again. */
export function replace(path: string, query: Query = {}): void {
  history.replaceState(null, "", href(path, query));
  route.value = parseHash(location.hash);
}
