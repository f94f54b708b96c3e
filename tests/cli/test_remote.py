"""Client commands on a server: the same output as on its store, and its answers as exit codes."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.support import Jobs, Run

from durably.domain.job import AttemptError, Job

Asked = list[tuple[str, str, dict[str, str], bytes]]
Answer = tuple[int, Any]


class FakeServer:
    """Answers every request with what `answers` gives for its method and path."""

    def __init__(self) -> None:
        self.asked: Asked = []
        self.answers: Callable[[str, str], Answer] = lambda *_: (200, {})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, document = outer.answers(self.command, self.path)
                content = document if isinstance(document, bytes) else msgspec.json.encode(document)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://elsewhere.example/")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


def problem(status: int, code: str, detail: str) -> Answer:
    return status, {"status": status, "code": code, "detail": detail, "requestId": "req-7"}


_ERROR_NAMES = (AttemptError.__struct_encode_fields__, AttemptError.__struct_fields__)


def test_a_job_looks_the_same_from_a_server_and_from_its_store(
    run: Run, jobs: Jobs, server: FakeServer
) -> None:
    """Text and JSON, field by field: the wire's names are not the command line's."""
    local = json.loads(run("jobs", "show", jobs["broken"], "--json").stdout)
    scheduled = local.pop("scheduled")
    job = msgspec.convert(local, type=dict)
    camel = {
        name: job[field]
        for name, field in zip(Job.__struct_encode_fields__, Job.__struct_fields__, strict=True)
    }
    camel["errors"] = [
        {name: error[field] for name, field in zip(*_ERROR_NAMES, strict=True)}
        for error in camel["errors"]
    ]
    server.answers = lambda *_: (200, {**camel, "scheduled": scheduled})

    shown = run("jobs", "show", jobs["broken"], "--json", "--url", server.url + "/")
    assert json.loads(shown.stdout) == {**local, "scheduled": scheduled}
    assert (
        run("jobs", "show", jobs["broken"]).stdout
        == run("jobs", "show", jobs["broken"], "--url", server.url).stdout
    )
    assert server.asked[0][:2] == ("GET", f"/api/jobs/{jobs['broken']}")


def test_the_list_is_fetched_page_by_page(run: Run, server: FakeServer) -> None:
    """Filters are passed on, the cursor is followed, and no more is asked for than is wanted."""
    pages = iter([{"jobs": [], "nextCursor": "a b"}, {"jobs": []}])
    server.answers = lambda *_: (200, next(pages))
    result = run(
        "jobs", "list", "--status", "failed", "--limit", "5", "--json", "--url", server.url
    )
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"jobs": []})
    assert [path for _, path, _, _ in server.asked] == [
        "/api/jobs?status=failed&limit=5",
        "/api/jobs?status=failed&after=a+b&limit=5",
    ]


@pytest.mark.parametrize(
    ("command", "method", "path", "body"),
    [
        (("jobs", "cancel", "a/b c"), "POST", "/base/api/jobs/a%2Fb%20c/cancel", b""),
        (("jobs", "retry", "x"), "POST", "/base/api/jobs/x/retry", b""),
        (("jobs", "retry", "x", "--payload", "[1]"), "POST", "/base/api/jobs/x/retry", b'{"payload":[1]}'),
        (("jobs", "explain", "x"), "GET", "/base/api/jobs/x/explain", b""),
        (("pause", "mail/in"), "POST", "/base/api/queues/mail%2Fin/pause", b""),
        (("resume", "mail"), "POST", "/base/api/queues/mail/resume", b""),
        (("stats",), "GET", "/base/api/stats", b""),
    ],
)  # fmt: skip
def test_each_command_asks_its_route_with_the_token(
    run: Run, server: FakeServer, command: tuple[str, ...], method: str, path: str, body: bytes
) -> None:
    """A path before /api is kept; the token goes along as a bearer token."""
    server.answers = lambda *_: problem(409, "conflict", "not now")
    result = run(*command, "--url", f"{server.url}/base/", "--token", "secret-token")
    assert result.exit_code == 4
    assert result.stderr == "error: not now\n"
    [(asked_method, asked_path, headers, asked_body)] = server.asked
    assert (asked_method, asked_path, asked_body) == (method, path, body)
    assert headers["Authorization"] == "Bearer secret-token"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (problem(400, "validation_failed", "limit: too large"), 2, "limit: too large (request req-7)"),
        (problem(401, "unauthorized", "the token is unknown"), 2, "the token is unknown"),
        (problem(403, "forbidden", "this needs the role operator"), 2, "needs the role operator"),
        (problem(404, "not_found", "no job has the id 'x'"), 3, "no job has the id 'x'"),
        (problem(409, "conflict", "it is completed"), 4, "it is completed"),
        (problem(500, "internal_error", "the server has failed"), 1, "(request req-7)"),
        (problem(503, "unavailable", "try again"), 1, "try again"),
        ((200, b"<html>"), 1, "does not answer as a Durably server does (status 200)"),
        ((302, b""), 1, "does not answer as a Durably server does (status 302)"),
        ((502, b"bad gateway"), 1, "does not answer as a Durably server does (status 502)"),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_one_line_and_an_exit_code(
    run: Run, server: FakeServer, answer: Answer, code: int, said: str
) -> None:
    """As documented in the help; nothing of the token is told."""
    server.answers = lambda *_: answer
    result = run("jobs", "cancel", "x", "--url", server.url, "--token", "secret-token")
    assert result.exit_code == code
    assert said in result.stderr
    assert "secret-token" not in result.output
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--url", "http://127.0.0.1:1"), "no server answers at http://127.0.0.1:1"),
        (("--url", "http://u:hush@127.0.0.1:1/x"), "no server answers at http://127.0.0.1:1/x"),
    ],
)
def test_no_server_is_a_clear_failure(run: Run, flags: tuple[str, ...], said: str) -> None:
    """Exit code 1; a password in the URL is not repeated."""
    result = run("stats", *flags)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "hush" not in result.stderr


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8000", "http://", "http://x:port"])
def test_what_is_no_url_is_wrong_usage(run: Run, url: str) -> None:
    """Exit code 2."""
    result = run("stats", "--url", url)
    assert result.exit_code == 2
    assert "--url" in result.stderr


def test_a_flag_wins_over_the_environment_of_the_other(
    run: Run, jobs: Jobs, server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--store looks at the store although DURABLY_URL is set; both flags are wrong usage."""
    monkeypatch.setenv("DURABLY_URL", server.url)
    assert run("jobs", "list", "--store", "sqlite:///durably.db").exit_code == 0
    assert server.asked == []
    server.answers = lambda *_: (200, {"jobs": []})
    (tmp_path / "token").write_text("file-token\n")
    monkeypatch.setenv("DURABLY_TOKEN_FILE", str(tmp_path / "token"))
    assert run("jobs", "list").exit_code == 0
    assert server.asked[0][2]["Authorization"] == "Bearer file-token"
    both = run("stats", "--store", "sqlite:///durably.db", "--url", server.url)
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
    monkeypatch.setenv("DURABLY_TOKEN_FILE", str(tmp_path / "nowhere"))
    assert run("jobs", "list").exit_code == 2
    assert jobs
