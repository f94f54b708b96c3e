import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function OverviewPage() {
  return (
    <>
      <PageHead title="Overview" />
      <Skeleton />
    </>
  );
}
