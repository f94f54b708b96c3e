"""Parameters that several routes have."""

from typing import Annotated, Any, TypeAlias

from litestar import Request
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from durably import JobStatus
from durably.instances import Fault
from durably.server.errors import invalid
from durably.server.schemas import NO_NUL

JobId: TypeAlias = Annotated[str, PathParameter(description="The id of the job.")]
InstanceId: TypeAlias = Annotated[str, PathParameter(description="The id of the instance.")]
IfNoneMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", description="An ETag: 304 when nothing has changed."),
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Makes the request safe to repeat for 24 hours: the same key and body get the "
        "answer of the first request, and nothing is made twice.",
    ),
]
OfStatus: TypeAlias = Annotated[
    JobStatus | None, QueryParameter(description="Only these; scheduled jobs are pending.")
]
OfType: TypeAlias = Annotated[
    str | None, QueryParameter(min_length=1, max_length=200, pattern=NO_NUL)
]
OfQueue: TypeAlias = Annotated[
    str | None, QueryParameter(min_length=1, max_length=100, pattern=NO_NUL)
]
AfterRecord: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=200,
        pattern=NO_NUL,
        description="Go on after this one: nextCursor of the page before.",
    ),
]


def no_other_query(request: Request[Any, Any, Any], *known: str) -> None:
    """Refuse parameters that nobody reads: a misspelt filter must not list everything."""
    faults = [
        Fault(field=name[:100], message=f"is unknown; known: {', '.join(known)}")
        for name in request.query_params
        if name not in known
    ]
    if faults:
        raise invalid(*faults)
