"""A server as client commands see it: calls of `JobQueueService`, over HTTP.

Redirects are not followed: the token is for the server that was named.
"""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from durably.cli.errors import FAILED, NOT_FOUND, WRONG_USAGE, Failure
from durably.domain.errors import JobStateError
from durably.domain.job import Job, JobStatus

_TIMEOUT_S = 30.0
_UNCHANGED: Any = object()


class _Problem(msgspec.Struct, rename="camel"):
    detail: str = ""
    request_id: str = ""


class _Page(msgspec.Struct, rename="camel"):
    jobs: list[Job]
    next_cursor: str | None = None


class RemoteQueue:
    """The queue behind a server.

    Args:
        url: of the server, with or without a path before ``/api``.
        token: sent as the bearer token; None: none is.

    Raises:
        Failure: the URL is none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise Failure(f"--url is no URL: {error}: {url!r}", WRONG_USAGE) from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Failure(
                f"--url must begin with http:// or https:// and a host, got {url!r}", WRONG_USAGE
            )
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host = parts.hostname
        self._path = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def get_jobs(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """See `JobQueueService.get_jobs`; tracebacks are left out."""
        found: list[Job] = []
        while len(found) < limit:
            wanted = {"status": status, "type": type, "queue": queue, "after": after}
            query = {name: value for name, value in wanted.items() if value is not None}
            query["limit"] = str(min(1_000, limit - len(found)))
            page = self._ask("GET", f"jobs?{urlencode(query)}", _Page)
            found += page.jobs
            after = page.next_cursor
            if after is None:
                break
        return found

    async def get_job(self, id: str) -> Job | None:
        """See `JobQueueService.get_job`."""
        try:
            return self._ask("GET", _job(id), Job)  # type: ignore[no-any-return]  # decoded as Job
        except Failure as failure:
            if failure.exit_code == NOT_FOUND:
                return None
            raise

    async def cancel_job(self, id: str) -> Job:
        """See `JobQueueService.cancel_job`."""
        return self._ask("POST", _job(id, "cancel"), Job)  # type: ignore[no-any-return]  # decoded as Job

    async def retry_job(self, id: str, *, payload: Any = _UNCHANGED) -> Job:
        """See `JobQueueService.retry_job`."""
        body = None if payload is _UNCHANGED else {"payload": payload}
        return self._ask("POST", _job(id, "retry"), Job, body)  # type: ignore[no-any-return]  # decoded as Job

    async def explain(self, id: str) -> str:
        """See `JobQueueService.explain`."""
        return str(self._ask("GET", _job(id, "explain"), dict[str, str])["explanation"])

    async def get_stats(self) -> Any:
        """See `JobQueueService.get_stats`."""
        from durably.engine.stats import QueueStats

        return self._ask("GET", "stats", QueueStats)

    async def pause(self, queue: str) -> None:
        """See `JobQueueService.pause`."""
        self._ask("POST", f"queues/{quote(queue, safe='')}/pause", dict[str, Any])

    async def resume(self, queue: str) -> None:
        """See `JobQueueService.resume`."""
        self._ask("POST", f"queues/{quote(queue, safe='')}/resume", dict[str, Any])

    def _ask(self, method: str, path: str, kind: Any, body: object = None) -> Any:
        status, content = self._exchange(method, path, body)
        try:
            if 200 <= status < 300:
                return msgspec.json.decode(content, type=kind)
            problem = msgspec.json.decode(content, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Failure(
                f"{self._url} does not answer as a Durably server does (status {status})", FAILED
            ) from None
        raise _error(status, problem)

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        connection = self._connection(self._host, self._port, timeout=_TIMEOUT_S)
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, f"{self._path}/api/{path}", content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failure(f"no server answers at {self._url}: {why}", FAILED) from error
        finally:
            connection.close()


def _job(id: str, verb: str = "") -> str:
    path = f"jobs/{quote(id, safe='', errors='replace')}"
    return f"{path}/{verb}" if verb else path


def _error(status: int, problem: _Problem) -> Exception:
    """What a problem means to the command line."""
    if status == 409:
        return JobStateError(problem.detail)
    if status == 404:
        return Failure(problem.detail, NOT_FOUND)
    message = f"{problem.detail} (request {problem.request_id})"
    return Failure(message, WRONG_USAGE if status in {400, 401, 403, 413} else FAILED)
