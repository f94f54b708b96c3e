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
    ends_at: int | None = None
    """When it has to say again who it is, seconds since 1970; None: a token does so each time."""


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
            ValueError: some are unusable, or there are none in a text that was given; the message
                says which by place and role, and quotes none.
        """
        found: dict[bytes, Principal] = {}
        faults: list[str] = []
        parts = [part.strip() for part in re.split(r"[,\n]", text or "")]
        for number, part in enumerate(filter(None, parts), 1):
            try:
                digest, principal = _principal(part)
                if digest in found:
                    raise ValueError("is there twice")
            except ValueError as error:
                faults.append(f"token {number} {error}")
            else:
                found[digest] = principal
        if text and not found and not faults:
            # Whoever sets tokens wants them: an empty list must not open the server to everybody.
            faults.append("need at least one role:token")
        if faults:
            raise ValueError("; ".join(faults))
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._principals)

    def find(self, presented: str) -> Principal | None:
        """Who presents this token; None for an unknown one."""
        # A look-up by digest tells nothing of a token by how long it takes.
        return self._principals.get(hashlib.sha256(presented.encode()).digest())

    def named(self, name: str) -> Principal | None:
        """The principal of that name; None when its token is there no more."""
        return next((one for one in self._principals.values() if one.name == name), None)

    def strongest(self) -> Principal | None:
        """The principal with the highest role; None when there are no tokens."""
        return max(self._principals.values(), key=lambda one: one.role, default=None)


def _principal(part: str) -> tuple[bytes, Principal]:
    """Digest and holder of one ``role:token``; ValueError with what it needs."""
    role_name, colon, token = part.partition(":")
    if not colon or role_name.upper() not in Role.__members__:
        known = ", ".join(role.name.lower() for role in Role)
        raise ValueError(f"needs the form role:token, roles: {known}")
    role = Role[role_name.upper()].name.lower()
    if token.startswith("sha256:"):
        match = _DIGEST.fullmatch(token)
        if match is None:
            raise ValueError(f"({role}) needs 64 lower-case hex digits after sha256:")
        digest = bytes.fromhex(match[1])
    elif not (_LEAST <= len(token) <= _MOST and token.isascii() and token.isprintable()):
        raise ValueError(f"({role}) needs {_LEAST} to {_MOST} visible ASCII characters")
    elif " " in token:
        raise ValueError(f"({role}) must not contain blanks")
    else:
        digest = hashlib.sha256(token.encode()).digest()
    name = f"{role}-{digest.hex()[:8]}"
    return digest, Principal(name=name, role=Role[role_name.upper()])


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
