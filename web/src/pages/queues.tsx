import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function QueuesPage() {
  return (
    <>
      <PageHead title="Queues" />
      <Skeleton />
    </>
  );
}
