"""Who may do what: bearer tokens, of which only digests are kept, and their roles."""

import hashlib
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Self

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler

_LEAST, _MOST = 16, 512
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Role(IntEnum):
    """What a token allows; each role includes those before it."""

    VIEWER = 1
    """Look at everything but the audit."""
    OPERATOR = 2
    """Add, cancel and retry jobs; create, start, stop and delete instances; pause queues."""
    ADMIN = 3
    """Read the audit."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    name: str
    role: Role


LOCAL = Principal(name="local", role=Role.ADMIN)
"""Whoever reaches a server without tokens: it listens on loopback only."""


class Tokens:
    """The tokens of a server, by digest. False when there are none."""

    def __init__(self, principals: Mapping[bytes, Principal]) -> None:
        self._principals = dict(principals)

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The tokens of the setting: ``role:token``, separated by commas or line ends.

        A token is 16 to 512 visible ASCII characters. ``role:sha256:<64 hex digits>`` gives its
        SHA-256 instead, so that it stands nowhere in clear.

        Raises:
            ValueError: one is unusable; the message says which, and quotes none.
        """
        found: dict[bytes, Principal] = {}
        parts = [part.strip() for part in re.split(r"[,\n]", text or "")]
        for number, part in enumerate(filter(None, parts), 1):
            role_name, colon, token = part.partition(":")
            if not colon or role_name.upper() not in Role.__members__:
                known = ", ".join(role.name.lower() for role in Role)
                raise ValueError(f"token {number} needs the form role:token, roles: {known}")
            role, digest = Role[role_name.upper()], _digest(number, token)
            if digest in found:
                raise ValueError(f"token {number} is there twice")
            name = f"{role.name.lower()}-{digest.hex()[:8]}"
            found[digest] = Principal(name=name, role=role)
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._principals)

    def find(self, presented: str) -> Principal | None:
        """Who presents this token; None for an unknown one."""
        # A look-up by digest tells nothing of a token by how long it takes.
        return self._principals.get(hashlib.sha256(presented.encode()).digest())


def _digest(number: int, token: str) -> bytes:
    if token.startswith("sha256:"):
        match = _DIGEST.fullmatch(token)
        if match is None:
            raise ValueError(f"token {number} needs 64 lower-case hex digits after sha256:")
        return bytes.fromhex(match[1])
    if not (_LEAST <= len(token) <= _MOST and token.isascii() and token.isprintable()):
        raise ValueError(f"token {number} needs {_LEAST} to {_MOST} visible ASCII characters")
    if " " in token:
        raise ValueError(f"token {number} must not contain blanks")
    return hashlib.sha256(token.encode()).digest()


Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]


def require(role: Role) -> Guard:
    """A guard that lets only principals of *role* or above pass."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        principal: Principal = connection.scope["state"]["principal"]
        if principal.role < role:
            raise PermissionDeniedException(
                f"this needs the role {role.name.lower()}; the token has"
                f" {principal.role.name.lower()}"
            )

    return guard
