"""Signed-in browsers. A session is a signed statement in a cookie that no script can read.

Nothing is kept of it: the key that signs lies in the store, so that a session holds in every server
process on that store and after a restart. It ends with its time, or when its token is taken away.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

from durably import Clock, JobQueueService
from durably.server.auth import Principal, Tokens

SESSION_S = 12 * 3600
CODE_S = 900
"""So long the link of the first run may be used."""
_KEY = "session_key"
_KEY_BYTES = 32


class _Statement(msgspec.Struct, frozen=True, array_like=True):
    """What is signed."""

    name: str
    ends_at: int
    """Seconds since 1970."""


class Sessions:
    """The sessions of a server with *tokens*.

    Args:
        key: signs; at least 32 bytes.
        tokens: who there is.
        clock: ends sessions.
        new_code: makes the codes of links, which nobody must be able to guess.
    """

    def __init__(
        self,
        key: bytes,
        tokens: Tokens,
        clock: Clock,
        *,
        new_code: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self._key = key
        self._tokens = tokens
        self._clock = clock
        self._new_code = new_code
        self._code: str | None = None
        self._code_until = 0.0
        # Browsers send the cookies of one host to each of its ports: the name tells stores apart.
        self.cookie = f"durably_{hashlib.sha256(key).hexdigest()[:8]}"
        """The name of the cookie."""

    def begin(self, principal: Principal) -> str:
        """The value of the cookie for *principal*; good for 12 hours."""
        statement = _Statement(principal.name, self._now_s() + SESSION_S)
        body = msgspec.json.encode(statement)
        return _text(self._signature(body) + body)

    def find(self, value: str) -> Principal | None:
        """Whose session a cookie is; None when it is over, forged, or its token is gone."""
        try:
            raw = base64.urlsafe_b64decode(value.encode("ascii") + b"==")
            signature, body = raw[:_KEY_BYTES], raw[_KEY_BYTES:]
            if not hmac.compare_digest(signature, self._signature(body)):
                return None
            statement = msgspec.json.decode(body, type=_Statement)
        except (binascii.Error, UnicodeError, msgspec.DecodeError):
            return None
        if statement.ends_at <= self._now_s():
            return None
        found = self._tokens.named(statement.name)
        return found and msgspec.structs.replace(found, ends_at=statement.ends_at)

    def invite(self) -> str:
        """A code that signs in once, as the token with the highest role, within 15 minutes."""
        self._code = self._new_code()
        self._code_until = self._clock.monotonic() + CODE_S
        return self._code

    def accept(self, code: str) -> Principal | None:
        """Who is signed in by *code*, which is used up by that; None when it is not good."""
        expected, late = self._code, self._clock.monotonic() >= self._code_until
        if expected is None or not hmac.compare_digest(
            code.encode(errors="replace"), expected.encode()
        ):
            return None
        self._code = None
        return None if late else self._tokens.strongest()

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")

    def _now_s(self) -> int:
        return self._clock.now_us() // 1_000_000


async def session_key(queue: JobQueueService) -> tuple[bytes, bool]:
    """The key of the store, and whether this call made it: then nobody has signed in before."""
    text, made = await queue.keep_once(_KEY, lambda: secrets.token_hex(_KEY_BYTES))
    return bytes.fromhex(text), made


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
