"""The dashboard's files, built from `web/` into this package: read once, served from memory.

Names of assets hold a hash of their content, so that browsers keep them for ever.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter

from durably.server.errors import ApiError, not_found

BUILT = Path(__file__).parent / "dashboard"
_PAGE = "index.html"
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, no script or style that stands in the page itself."""


class Asset(msgspec.Struct, frozen=True):
    """A file."""

    kind: str
    content: bytes
    zipped: bytes | None
    """The same in gzip."""


def built_assets(folder: Path = BUILT) -> dict[str, Asset]:
    """The files by name; empty when the dashboard has not been built."""
    found: dict[str, Asset] = {}
    for path in sorted([folder / _PAGE, *folder.glob("assets/*")]):
        if path.is_file() and path.suffix in _KINDS:
            twin = path.with_name(f"{path.name}.gz")
            zipped = twin.read_bytes() if twin.exists() else None
            found[path.name] = Asset(_KINDS[path.suffix], path.read_bytes(), zipped)
    return found


def dashboard(assets: dict[str, Asset]) -> list[HTTPRouteHandler]:
    """The routes of the page and its assets."""

    @get("/", include_in_schema=False)
    async def page(request: Request[Any, Any, Any]) -> Response[Any]:
        """The dashboard."""
        if _PAGE not in assets:
            raise ApiError(
                404,
                "dashboard_not_built",
                "the dashboard has not been built here: run `make setup` in a checkout (it needs npm),"
                " or install a wheel; the API works without it",
            )
        asset = assets[_PAGE]
        etag = f'"{hashlib.blake2b(asset.content, digest_size=12).hexdigest()}"'
        headers = {"Cache-Control": "no-cache", "ETag": etag, "Content-Security-Policy": _POLICY}
        if _names(request.headers.get("if-none-match", ""), etag):
            return Response(None, status_code=304, headers=headers)
        return _response(request, asset, headers)

    @get("/assets/{name:str}", include_in_schema=False)
    async def file(
        request: Request[Any, Any, Any],
        name: Annotated[str, PathParameter(description="As the page names it.")],
    ) -> Response[Any]:
        """A part of it."""
        if name not in assets or name == _PAGE:
            raise not_found(f"the dashboard has no file {name[:200]!r}")
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return _response(request, assets[name], headers)

    return [page, file]


def _response(
    request: Request[Any, Any, Any], asset: Asset, headers: dict[str, str]
) -> Response[Any]:
    headers["Vary"] = "Accept-Encoding"
    content = asset.content
    if asset.zipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        content = asset.zipped
    return Response(content, headers=headers, media_type=asset.kind)


def _names(header: str, etag: str) -> bool:
    """Whether an If-None-Match names *etag*, which a proxy may have weakened (RFC 9110, 13.1.2)."""
    given = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in given or etag in given


def _takes_gzip(header: str) -> bool:
    """Whether an Accept-Encoding allows gzip (RFC 9110, 12.5.3)."""
    for item in header.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False
