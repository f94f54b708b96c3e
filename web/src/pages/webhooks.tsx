import { PageHead } from "../components/card.tsx";
import { Skeleton } from "../components/states.tsx";

export function WebhooksPage() {
  return (
    <>
      <PageHead title="Webhooks" />
      <Skeleton />
    </>
  );
}
