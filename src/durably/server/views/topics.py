"""The topics of the live stream: from a name such as ``jobs?status=failed`` to what it shows."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from durably.instances import DeliveryStatus, Fault
from durably.server.audit import entries
from durably.server.auth import Principal, Role
from durably.server.errors import ApiError, invalid, not_found
from durably.server.history import Range
from durably.server.live import Render
from durably.server.schemas import AuditPage
from durably.server.service import Service
from durably.server.views.instances import instance_detail, instance_page, webhooks
from durably.server.views.jobs import job_detail, job_list, job_query
from durably.server.views.overview import overview, shell
from durably.server.views.queues import queues

LONGEST = 2_000
PAGE = 100
_AUDIT_PAGE = 100

_E = TypeVar("_E", bound=StrEnum)
Query: TypeAlias = Mapping[str, str]
Make: TypeAlias = Callable[[Service, str, Query], Render]


def render_of(service: Service, principal: Principal, topic: str) -> Render:
    """What renders *topic* for somebody who may see it.

    Raises:
        ApiError: 400 for a query that does not fit, 403, 404 for a topic that does not exist.
    """
    path, _, query = topic.partition("?")
    name, _, argument = path.partition("/")
    if name not in _TOPICS or len(topic) > LONGEST or not (topic.isascii() and topic.isprintable()):
        raise not_found(f"there is no live topic {topic[:200]!r}; known: {', '.join(_TOPICS)}")
    role, make = _TOPICS[name]
    if principal.role < role:
        told = f"the topic {name} needs the role {role.name.lower()}"
        raise ApiError(403, "forbidden", told)
    return make(service, unquote(argument), dict(parse_qsl(query)))


# Each gives what renders the topic; what does not fit is refused when it is asked for, not later.


def _plain(show: Callable[[Service], Awaitable[Any]]) -> Make:
    return lambda service, _argument, _query: lambda: show(service)


def _jobs(service: Service, _: str, query: Query) -> Render:
    where = job_query(query)
    return lambda: job_list(service, where, limit=PAGE)


def _job(service: Service, job_id: str, _: Query) -> Render:
    return lambda: job_detail(service, job_id)


def _history(service: Service, _: str, query: Query) -> Render:
    chosen = _one_of(Range, "range", query.get("range", Range.HOUR))
    return lambda: service.history.view(chosen)


def _instances(service: Service, _: str, _query: Query) -> Render:
    return lambda: instance_page(service, limit=PAGE)


def _instance(service: Service, instance_id: str, _: Query) -> Render:
    return lambda: instance_detail(service, instance_id)


def _webhooks(service: Service, _: str, query: Query) -> Render:
    named = query.get("status")
    status = _one_of(DeliveryStatus, "status", named) if named else None
    return lambda: webhooks(service, status, limit=PAGE)


def _audit(service: Service, _: str, _query: Query) -> Render:
    async def show() -> AuditPage:
        found = await entries(service.queue, before=0, limit=_AUDIT_PAGE)
        cursor = found[-1].id if len(found) == _AUDIT_PAGE else msgspec.UNSET
        return AuditPage(entries=found, next_cursor=cursor)

    return show


def _one_of(kind: type[_E], field: str, value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        told = f"must be one of {', '.join(kind)}, got {value[:100]!r}"
        raise invalid(Fault(field=field, message=told)) from None


_TOPICS: Mapping[str, tuple[Role, Make]] = MappingProxyType(
    {
        "shell": (Role.VIEWER, _plain(shell)),
        "overview": (Role.VIEWER, _plain(overview)),
        "history": (Role.VIEWER, _history),
        "jobs": (Role.VIEWER, _jobs),
        "job": (Role.VIEWER, _job),
        "instances": (Role.VIEWER, _instances),
        "instance": (Role.VIEWER, _instance),
        "webhooks": (Role.VIEWER, _webhooks),
        "queues": (Role.VIEWER, _plain(queues)),
        "audit": (Role.ADMIN, _audit),
    }
)
