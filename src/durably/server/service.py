"""What the routes share, and what has to be done now and then while the server runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from litestar import Request

from durably import Clock, Job, JobQueueService
from durably.domain.clock import to_datetime
from durably.instances import JobWorkerService, WebhookDelivery
from durably.server import audit
from durably.server.audit import Origin
from durably.server.auth import Tokens
from durably.server.estimate import Estimate
from durably.server.history import History
from durably.server.idempotency import IdempotencyKeys
from durably.server.limits import RateLimiter
from durably.server.live import Feed
from durably.server.metrics import Metrics
from durably.server.readiness import Readiness
from durably.server.redaction import Redactor
from durably.server.schemas import JobView, delivery_view, job_view
from durably.server.sessions import Sessions
from durably.server.streams import EventLog

HOUSEKEEPING_INTERVAL_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that the routes work with; made by the composition root, closed by it too."""

    queue: JobQueueService
    instances: JobWorkerService
    log: EventLog
    feed: Feed
    history: History
    sessions: Sessions
    keys: IdempotencyKeys
    estimate: Estimate
    readiness: Readiness
    metrics: Metrics
    redactor: Redactor
    tokens: Tokens
    limiter: RateLimiter
    clock: Clock

    def drain(self) -> None:
        """The service is about to end: let go of those who wait, and end the streams."""
        self.readiness.drain()
        self.log.close()
        self.feed.close()

    def now(self) -> datetime:
        """The time, aware and UTC."""
        return to_datetime(self.clock.now_us())

    def view(self, job: Job, *, tracebacks: bool = True) -> JobView:
        """*job* as it may be shown."""
        return job_view(job, self.now(), self.redactor, tracebacks=tracebacks)

    def delivery(self, delivery: WebhookDelivery) -> WebhookDelivery:
        """*delivery* as it may be shown."""
        return delivery_view(delivery, self.redactor)

    async def housekeep(self) -> None:
        """Remove old audit entries, keys and history."""
        await audit.prune(self.queue)
        await self.keys.prune()
        await self.history.prune()


def service_of(request: Request[Any, Any, Any]) -> Service:
    """The service that answers *request*."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def origin_of(request: Request[Any, Any, Any]) -> Origin:
    """Who asks for a change."""
    state = request.scope["state"]
    return Origin(principal=state["principal"], request_id=state["request_id"])
