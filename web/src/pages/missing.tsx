import { ButtonLink } from "../components/button.tsx";
import { PageHead } from "../components/card.tsx";
import { EmptyState } from "../components/states.tsx";
import { href } from "../router.ts";

export function MissingPage() {
  return (
    <>
      <PageHead title="Nothing here" />
      <EmptyState icon="search" title="There is no such page, or not for your role" action={<ButtonLink href={href("/")}>To the overview</ButtonLink>} />
    </>
  );
}
