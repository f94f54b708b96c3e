"""The built dashboard: what is shipped, how large it is, and that it can obey a strict policy."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "web"
BUILT = ROOT / "src" / "durably" / "server" / "dashboard"
LIMIT_BYTES = 150 * 1024

needs_build = pytest.mark.skipif(
    not (BUILT / "index.html").exists(), reason="the dashboard is not built: npm was missing"
)


@needs_build
def test_it_is_small() -> None:
    """Everything the browser loads, gzipped, is within the limit."""
    assert sum(path.stat().st_size for path in BUILT.rglob("*.gz")) <= LIMIT_BYTES


@needs_build
def test_every_file_has_its_gzip_twin() -> None:
    """The twin unpacks to the file, and names in assets/ carry a hash."""
    files = [BUILT / "index.html", *(p for p in (BUILT / "assets").iterdir() if p.suffix != ".gz")]

    assert len(files) >= 3
    for path in files:
        assert path.read_bytes() == gzip.decompress(Path(f"{path}.gz").read_bytes())
        assert path.name == "index.html" or re.fullmatch(r"\w+-[A-Z0-9]{8}\.(js|css)", path.name)


@needs_build
def test_the_page_obeys_a_strict_policy() -> None:
    """Scripts and styles are files of our own; nothing is inline, nothing comes from elsewhere."""
    page = (BUILT / "index.html").read_text()

    for name in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert (BUILT / name.removeprefix("/")).exists()
    assert (
        re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|https?://(?!www\.w3\.org/)", page)
        is None
    )


def test_what_was_typed_is_never_html() -> None:
    """No module writes HTML, evaluates text or stores what could be a secret."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|sessionStorage"
    )

    found = [str(p) for p in (WEB / "src").rglob("*.ts*") if forbidden.search(p.read_text())]

    assert [] == found


def test_the_lock_names_versions_and_no_host() -> None:
    """Every package is pinned by its digest, from whatever registry it comes."""
    lock = (WEB / "package-lock.json").read_text()

    assert '"integrity": "sha512-' in lock
    assert '"resolved"' not in lock


@needs_build
def test_the_wheel_has_it(tmp_path: Path) -> None:
    """Whoever installs the package needs no Node.js."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    shipped = {name.removeprefix("durably/server/") for name in names if "/dashboard/" in name}
    built = {str(p.relative_to(BUILT.parent)) for p in BUILT.rglob("*") if p.is_file()}
    assert built == shipped
