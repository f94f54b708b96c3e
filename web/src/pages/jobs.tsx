import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function JobsPage() {
  return (
    <>
      <PageHead title="Jobs" />
      <Skeleton />
    </>
  );
}
