"""What there is to rent."""

from typing import Any

from litestar import Request, Response, get

from durably.instances import Catalogue
from durably.server.answers import answer, problems
from durably.server.auth import Role, require
from durably.server.service import service_of


@get(
    "/api/catalogue",
    guards=[require(Role.VIEWER)],
    summary="What there is to rent",
    responses=problems(),
)
async def catalogue(request: Request[Any, Any, Any]) -> Response[Catalogue]:
    """What the provider has on offer, as it was at most a minute ago."""
    return answer(await service_of(request).instances.catalogue())


HANDLERS = [catalogue]
