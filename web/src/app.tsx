import type { ComponentChildren } from "preact";
import { useEffect, useErrorBoundary, useState } from "preact/hooks";
import { ApiError, get, messageOf } from "./api.ts";
import { Button } from "./components/button.tsx";
import { PageHead } from "./components/card.tsx";
import { EmptyState, Skeleton } from "./components/states.tsx";
import { AuditPage } from "./pages/audit.tsx";
import { InstancePage } from "./pages/instance.tsx";
import { InstancesPage } from "./pages/instances.tsx";
import { JobPage } from "./pages/job.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { MissingPage } from "./pages/missing.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { QueuesPage } from "./pages/queues.tsx";
import { SignInPage } from "./pages/sign-in.tsx";
import { WebhooksPage } from "./pages/webhooks.tsx";
import { match } from "./route.ts";
import { route } from "./router.ts";
import { can, session } from "./session.ts";
import { Shell } from "./shell.tsx";
import type { Session } from "./types.ts";

const ROUTES: [string, (parameters: Record<string, string>) => ComponentChildren][] = [
  ["/", () => <OverviewPage />],
  ["/jobs", () => <JobsPage />],
  ["/jobs/:id", ({ id }) => <JobPage key={id} id={id!} />],
  ["/queues", () => <QueuesPage />],
  ["/instances", () => <InstancesPage />],
  ["/instances/:id", ({ id }) => <InstancePage key={id} id={id!} />],
  ["/webhooks", () => <WebhooksPage />],
  ["/audit", () => (can("admin") ? <AuditPage /> : <MissingPage />)],
];

export function App() {
  const [failure, setFailure] = useState<string | null>(null);

  async function start(): Promise<void> {
    setFailure(null);
    try {
      session.value = await get<Session>("/api/session");
    } catch (error) {
      if (error instanceof ApiError && error.problem.status === 401) session.value = null;
      else setFailure(messageOf(error));
    }
  }
  useEffect(() => void start(), []);

  if (failure !== null)
    return (
      <main class="alone">
        <h1 class="visually-hidden">Durably</h1>
        <EmptyState icon="warning" title="Durably cannot be reached" action={<Button onClick={() => void start()}>Try again</Button>}>
          <p>{failure}</p>
        </EmptyState>
      </main>
    );
  if (session.value === undefined)
    return (
      <main class="alone">
        <h1 class="visually-hidden">Durably</h1>
        <Skeleton label="Durably is starting" />
      </main>
    );
  const { path } = route.value;
  // A one-time link is followed also by somebody who is signed in: perhaps as somebody else.
  if (session.value === null || path === "/sign-in") return <SignInPage />;
  return (
    <Shell>
      <Guarded key={path}>{page(path)}</Guarded>
    </Shell>
  );
}

/** A mistake of ours on one page leaves the frame and the other pages whole. */
function Guarded({ children }: { children: ComponentChildren }) {
  const [error, reset] = useErrorBoundary((caught) => console.error(caught));
  if (error === undefined) return <>{children}</>;
  return (
    <>
      <PageHead title="This page failed" />
      <EmptyState icon="warning" title={messageOf(error)} action={<Button onClick={reset}>Show it again</Button>}>
        <p>The server and its jobs are not affected.</p>
      </EmptyState>
    </>
  );
}

function page(path: string): ComponentChildren {
  for (const [pattern, make] of ROUTES) {
    const parameters = match(pattern, path);
    if (parameters !== null) return make(parameters);
  }
  return <MissingPage />;
}
