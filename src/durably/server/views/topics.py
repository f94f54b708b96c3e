"""The topics of the live stream: from a name such as ``jobs?status=failed`` to what it shows."""

from collections.abc import Awaitable, Callable, Collection, Mapping
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
from durably.server.views.jobs import JobQuery, check_text_search, job_detail, job_list, job_query
from durably.server.views.overview import overview, shell
from durably.server.views.queues import queues

LONGEST = 12_000
"""Of a topic: so long is one with every filter at its longest, written as an address."""
PAGE = 100
_AUDIT_PAGE = 100

_E = TypeVar("_E", bound=StrEnum)
Query: TypeAlias = Mapping[str, str]
Make: TypeAlias = Callable[[Service, str, Query], Render]


def render_of(service: Service, principal: Principal, topic: str) -> Render:
    """What renders *topic* for somebody who may see it.

    A query that does not fit is a problem of the topic: the others of the page are not held up.

    Raises:
        ApiError: 403, 404 for a topic that does not exist.
    """
    path, _, query = topic.partition("?")
    name, _, argument = path.partition("/")
    if name not in _TOPICS or len(topic) > LONGEST or not (topic.isascii() and topic.isprintable()):
        raise not_found(f"there is no live topic {topic[:200]!r}; known: {', '.join(_TOPICS)}")
    role, make, known = _TOPICS[name]
    if principal.role < role:
        told = f"the topic {name} needs the role {role.name.lower()}"
        raise ApiError(403, "forbidden", told)
    given = dict(parse_qsl(query, keep_blank_values=True))
    try:
        _check_names(given, known)
        if "text" in given:
            check_text_search(service, principal)
        return make(service, unquote(argument), given)
    except ApiError as error:
        return _failing(error)


def _failing(error: ApiError) -> Render:
    async def fail() -> Any:
        raise error

    return fail


def _check_names(query: Query, known: Collection[str]) -> None:
    """Refuse what nobody reads: a misspelt filter must not show everything."""
    told = f"is unknown; known: {', '.join(known) or 'none'}"
    if unknown := [Fault(field=name[:100], message=told) for name in query if name not in known]:
        raise invalid(*unknown)


# Each gives what renders the topic, or raises what is wrong with its query.


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
    status = None if named is None else _one_of(DeliveryStatus, "status", named)
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


_TOPICS: Mapping[str, tuple[Role, Make, tuple[str, ...]]] = MappingProxyType(
    {
        "shell": (Role.VIEWER, _plain(shell), ()),
        "overview": (Role.VIEWER, _plain(overview), ()),
        "history": (Role.VIEWER, _history, ("range",)),
        "jobs": (Role.VIEWER, _jobs, JobQuery.__struct_fields__),
        "job": (Role.VIEWER, _job, ()),
        "instances": (Role.VIEWER, _instances, ()),
        "instance": (Role.VIEWER, _instance, ()),
        "webhooks": (Role.VIEWER, _webhooks, ("status",)),
        "queues": (Role.VIEWER, _plain(queues), ()),
        "audit": (Role.ADMIN, _audit, ()),
    }
)
"""By name: who may see it, what makes it, what its query may have."""
