// Whether the page is shown on a phone: for what style sheets cannot know, such as the height of rows.

import { signal } from "@preact/signals";

const query = matchMedia("(max-width: 720px)");
export const narrow = signal(query.matches);
query.addEventListener("change", () => {
  narrow.value = query.matches;
});
