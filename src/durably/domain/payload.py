"""JSON in and out: what may be a payload, result, record or event, and how large."""

import math
import re
from itertools import accumulate
from typing import Any

import msgspec

from durably.domain.errors import PayloadError

PAYLOAD_MAX_BYTES = 1_048_576
DEPTH_MOST = 200
"""Levels of nesting. What is deeper might be written here and be too deep for its reader's stack."""


def _foreign(value: Any) -> Any:
    """Pydantic models and their like, by their method, without importing them."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"objects of type {type(value).__name__!r} are not JSON-able")


def _foreign_back(kind: type, value: Any) -> Any:
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return validate(value)
    raise TypeError(f"cannot make a {kind.__name__} from JSON")


_encoder = msgspec.json.Encoder(enc_hook=_foreign)


def encode(value: object, *, what: str = "payload", limit: int = PAYLOAD_MAX_BYTES) -> str:
    """The JSON text of *value*; PayloadError when it is not JSON-able or over *limit* bytes."""
    try:
        data = _encoder.encode(value)
        text = data.decode()
    except RecursionError:
        raise PayloadError(f"{what} is nested too deeply or refers to itself") from None
    except UnicodeError:
        raise PayloadError(f"{what} holds text with lone surrogates") from None
    except Exception as error:  # whatever a foreign model raises is a bad payload
        raise PayloadError(f"{what} is not JSON-able: {error}") from error
    if len(data) > limit:
        raise PayloadError(f"{what} must be at most {limit:,} bytes of JSON, got {len(data):,}")
    # So deep a document has as many opening brackets and as many closing ones.
    if len(data) > 2 * DEPTH_MOST and _depth(data) > DEPTH_MOST:
        raise PayloadError(f"{what} must be nested at most {DEPTH_MOST} levels deep")
    # msgspec writes NaN and infinity as null, which would change the payload in silence.
    if b"null" in data and _has_non_finite(value):
        raise PayloadError(f"{what} is not JSON-able: it holds NaN or infinity")
    return text


_NO_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^][{}"]+')


def _depth(data: bytes) -> int:
    if data.count(b"[") + data.count(b"{") <= DEPTH_MOST:
        return 0  # not deep, however deep it is
    brackets = _NO_BRACKETS.sub(b"", data)
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets))


def _has_non_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.keys())) or any(map(_has_non_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_non_finite, value))
    fields = getattr(value, "__struct_fields__", None) or getattr(
        value, "__dataclass_fields__", None
    )
    if fields is not None and not isinstance(value, type):
        return any(_has_non_finite(getattr(value, name)) for name in fields)
    dump = getattr(value, "model_dump", None)
    return callable(dump) and not isinstance(value, type) and _has_non_finite(dump())


def decode(text: str) -> Any:
    """The builtins of a JSON text."""
    return msgspec.json.decode(text)


class Shape:
    """How the payload of one job type must look: checked at enqueue and again at run."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        try:
            self._decoder = msgspec.json.Decoder(kind, dec_hook=_foreign_back)
        except TypeError as error:
            raise TypeError(f"payload type {kind!r} is not supported: {error}") from error
        # No payload is an empty one where every field has a default.
        self._none = "{}" if self._takes("{}") and not self._takes("null") else "null"

    def _takes(self, text: str) -> bool:
        try:
            self._decoder.decode(text)
        except Exception:  # noqa: BLE001  # a foreign model's validator raises its own
            return False
        return True

    def decode(self, text: str) -> Any:
        """The payload as the type; PayloadError naming the place that does not fit."""
        try:
            return self._decoder.decode(self._none if text == "null" else text)
        except Exception as error:  # a foreign model's validator raises its own
            raise PayloadError(f"payload does not fit {self._name()}: {error}") from error

    def _name(self) -> str:
        return getattr(self.kind, "__name__", str(self.kind))


def check_text(name: str, value: object, *, longest: int) -> str:
    """*value* if it is a text of 1 to *longest* characters that every store can keep."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {value!r}")
    if 1 <= len(value) <= longest and value.isascii() and value.isprintable():
        return value  # as nearly all are
    if not 1 <= len(value) <= longest:
        raise ValueError(f"{name} must have 1 to {longest} characters, got {value[:200]!r}")
    if "\0" in value:
        raise ValueError(f"{name} must not contain NUL, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not contain lone surrogates, got {value!r}") from None
    return value


def clean_text(value: str, *, longest: int = 8_192) -> str:
    """Any text made fit for every store: an error message comes from anywhere."""
    if len(value) > longest:
        half = longest // 2
        value = f"{value[:half]}\n… {len(value) - longest:,} characters left out …\n{value[-half:]}"
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
