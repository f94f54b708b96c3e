import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function InstancePage({ id }: { id: string }) {
  return (
    <>
      <PageHead title={id} />
      <Skeleton />
    </>
  );
}
