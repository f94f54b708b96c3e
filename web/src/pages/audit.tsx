import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function AuditPage() {
  return (
    <>
      <PageHead title="Audit" />
      <Skeleton />
    </>
  );
}
