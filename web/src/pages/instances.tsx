import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function InstancesPage() {
  return (
    <>
      <PageHead title="Instances" />
      <Skeleton />
    </>
  );
}
