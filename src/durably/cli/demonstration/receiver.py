"""Receives the demonstration's webhooks and verifies each with the official library."""

from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

_TERMINAL = frozenset({"instance.ready", "instance.failed", "instance.timeout"})


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it came in."""

    target: str
    """Who it was sent to."""
    webhook_id: str
    """Delivery is at least once: the same id may come again."""
    type: str
    """Empty unless verified."""
    verified: bool

    @property
    def is_terminal(self) -> bool:
        """Whether it says that a creation has ended."""
        return self.type in _TERMINAL


class _Body(msgspec.Struct):
    type: str


class Receiver:
    """An HTTP server on a free port of 127.0.0.1 while the ``async with`` block lasts.

    Args:
        secret: What webhooks must be signed with.
    """

    def __init__(self, secret: str) -> None:
        self.received: list[Received] = []
        """Everything that came, repetitions and forgeries included."""
        self._webhook = Webhook(secret)
        application = web.Application()
        application.router.add_post("/{target}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def url_of(self, target: str) -> str:
        """Where the webhooks for *target* are to go."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/{target}"

    def sent_to(self, target: str) -> list[Received]:
        """What came for *target*, each id once."""
        return list({one.webhook_id: one for one in self.received if one.target == target}.values())

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            self._webhook.verify(body, dict(request.headers))
            kind = msgspec.json.decode(body, type=_Body).type
        except (WebhookVerificationError, ValueError):
            kind = ""
        self.received.append(
            Received(
                target=request.match_info["target"],
                webhook_id=request.headers.get("webhook-id", ""),
                type=kind,
                verified=bool(kind),
            )
        )
        return web.Response(status=204 if kind else 401)
