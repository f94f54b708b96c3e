"""HTTP as uvicorn speaks it, with two things that it lacks: a limit of the head, and our errors.

Without the limit anybody may fill the memory with headers, before any token is looked at.
"""

from http import HTTPStatus
from typing import Any

import msgspec
import uuid_utils
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from durably.server.errors import PROBLEM_TYPE, ApiError

HEAD_MAX_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Count what comes until a head is complete."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_MAX_BYTES and not self.transport.is_closing():
            told = f"request line and headers may have at most {HEAD_MAX_BYTES:,} bytes"
            self._refuse(ApiError(431, "headers_too_large", told))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # ours says the same
        """Answer what is no HTTP."""
        self._refuse(ApiError(400, "malformed_request", "the request is not valid HTTP"))

    def _refuse(self, told: ApiError) -> None:
        request_id = str(uuid_utils.uuid7())
        body = msgspec.json.encode(told.problem(request_id))
        head = (
            f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}\r\n"
            f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nx-content-type-options: nosniff\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
