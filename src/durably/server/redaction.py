"""What clients are not shown: the values of fields with certain names, wherever JSON is given out.

Text is not searched: an error message, a log line or a URL that quotes such a value shows it.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

REDACTED = "[redacted]"
"""Stands in the place of a value that is not shown."""
_HEADERS = "headers"
_CREDENTIAL = re.compile(
    r"auth|cookie|credential|key|passw|secret|session|signature|token", re.IGNORECASE
)
_UNKNOWN: Any = object()


class RedactedValueError(ValueError):
    """A value that is not shown was sent back where none can be meant."""


class Redactor:
    """Hides the values of fields by their names, at any depth.

    Whatever the names, in an object called ``headers`` those are hidden too whose names look like
    credentials: authorization, cookies, API keys.

    Args:
        names: of fields; upper and lower case are the same.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(name.casefold() for name in names)

    @property
    def has_names(self) -> bool:
        """Whether fields are hidden by their names."""
        return bool(self._names)

    def hide(self, value: Any, *, headers: bool = False) -> Any:
        """*value*, which is JSON, with "[redacted]" for what is hidden; it is not changed itself.

        Args:
            value: any JSON.
            headers: whether it is an object of headers.
        """
        # A stack of our own: JSON may be nested more deeply than Python may call.
        whole = {_HEADERS if headers else "": value}
        todo: list[Any] = [(whole, "")]
        while todo:
            place, name = todo.pop()
            for key, child in _items(place):
                if place is not whole and self._hides(key, name):
                    place[key] = REDACTED
                elif isinstance(child, dict | list):
                    place[key] = child.copy()
                    todo.append((place[key], key))
        return next(iter(whole.values()))

    def restore(self, edited: Any, original: Any) -> Any:
        """*edited* with the values of *original* where "[redacted]" came back in a hidden field.

        Elements of a list belong together when they are shown alike, else by their places if the
        list is as long as it was.

        Raises:
            RedactedValueError: *original* has no value there, or it is not certain which.
        """
        whole = {"": edited}
        todo: list[Any] = [(whole, {"": original}, "")]
        while todo:
            place, before, name = todo.pop()
            for key, child, old in self._pairs(place, before):
                if child == REDACTED and place is not whole and self._hides(key, name):
                    if old is _UNKNOWN:
                        raise RedactedValueError(
                            f'"{REDACTED}" in {key!r} stands for no value that is known: write one'
                        )
                    place[key] = old
                elif isinstance(child, dict | list):
                    place[key] = child.copy()
                    todo.append((place[key], old, key))
        return whole[""]

    def _hides(self, key: object, name: object) -> bool:
        """Whether the field *key* of the object called *name* is hidden."""
        if not isinstance(key, str):
            return False
        return key.casefold() in self._names or (
            isinstance(name, str)
            and name.casefold() == _HEADERS
            and _CREDENTIAL.search(key) is not None
        )

    def _pairs(self, place: Any, before: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Key and value of each entry of *place*, and what it was in *before*."""
        if isinstance(place, list) and isinstance(before, list):
            yield from self._elements(place, before)
            return
        known = before if isinstance(before, dict) and isinstance(place, dict) else {}
        for key, child in _items(place):
            yield key, child, known.get(key, _UNKNOWN)

    def _elements(self, place: list[Any], before: list[Any]) -> Iterator[tuple[int, Any, Any]]:
        alike = defaultdict(list)
        for old in before:
            alike[_text(self.hide(old))].append(old)
        for index, child in enumerate(place):
            same = alike.get(_text(child), [])
            if len(same) == 1:
                yield index, child, same[0]
            else:
                yield index, child, before[index] if len(place) == len(before) else _UNKNOWN


def _items(place: Any) -> list[tuple[Any, Any]]:
    return list(place.items() if isinstance(place, dict) else enumerate(place))


def _text(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")
