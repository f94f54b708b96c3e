"""The dashboard's files as they are served."""

import gzip
import re
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from tests.server.support import TOKENS, running

from durably.server.assets import BUILT, built_assets, dashboard

BYTES_MOST = 150_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page with one script, built."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Durably</title>")
    (tmp_path / "assets" / "main-AB12.js").write_text("go()")
    (tmp_path / "assets" / "main-AB12.js.gz").write_bytes(gzip.compress(b"go()"))
    (tmp_path / "assets" / "notes.txt").write_text("not for browsers")
    return tmp_path


def client(folder: Path) -> TestClient[Litestar]:
    return TestClient(Litestar(dashboard(built_assets(folder)), openapi_config=None))


def test_an_asset_is_kept_for_ever_and_sent_as_small_as_the_browser_takes_it(folder: Path) -> None:
    """Its name changes with its content; caches are told that there are two forms."""
    with client(folder) as browser:
        plain = browser.get("/assets/main-AB12.js", headers={"Accept-Encoding": "identity"})
        zipped = browser.get("/assets/main-AB12.js", headers={"Accept-Encoding": "gzip;q=0.5, br"})
        refused = browser.get("/assets/main-AB12.js", headers={"Accept-Encoding": "gzip;q=0, br"})
        assert "content-encoding" not in refused.headers
        assert plain.text == zipped.text == "go()"
        assert "content-encoding" not in plain.headers
        assert zipped.headers["content-encoding"] == "gzip"
        for answer in (plain, zipped):
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-type"].startswith("text/javascript")
            assert answer.headers["vary"] == "Accept-Encoding"


def test_nothing_but_built_files_is_served(folder: Path) -> None:
    """No other kinds, no paths out of the folder, no page under a second name."""
    with client(folder) as browser:
        for name in ("notes.txt", "index.html", "main-AB12.js.gz", "..%2findex.html", "%2e%2e"):
            assert browser.get(f"/assets/{name}").status_code in {404, 500}, name
            assert "doctype" not in browser.get(f"/assets/{name}").text


def test_the_page_is_looked_up_each_time_and_sent_when_it_has_changed(folder: Path) -> None:
    """A new version is seen at once; an unchanged one is 304. Its policy allows only its own files."""
    with client(folder) as browser:
        first = browser.get("/")
        assert first.headers["cache-control"] == "no-cache"
        policy = first.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        etag = first.headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            assert browser.get("/", headers={"If-None-Match": known}).status_code == 304, known
        assert browser.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_without_a_build_the_way_out_is_told(tmp_path: Path) -> None:
    """A checkout whose dashboard was not built says what to do."""
    assert built_assets(tmp_path) == {}


@pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="npm is not here to build it")
async def test_the_built_dashboard_is_small_and_its_page_names_its_own_files_only() -> None:
    """At most 150 KB over the wire, no inline script, style or other host; all without a token."""
    assets = built_assets()
    page = assets["index.html"].content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert named
    assert all(name.startswith(("/assets/", "assets/", "./assets/", "data:")) for name in named)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert "<style" not in page
    assert " style=" not in page
    sizes = [len(asset.zipped or asset.content) for asset in assets.values()]
    assert sum(sizes) <= BYTES_MOST
    async with running(tokens=TOKENS, started=False) as api:
        assert (await api.get("/")).status == 200
        for name in (name for name in named if not name.startswith("data:")):
            answer = await api.get("/" + name.lstrip("./"))
            assert answer.status == 200, name
