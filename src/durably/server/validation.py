"""Bodies into structs, with all that is wrong with them at once.

msgspec stops at the first fault; so a body that does not fit is looked at again, field by field.
"""

from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from durably.instances import Fault
from durably.server.errors import ApiError, invalid, lowered

_T = TypeVar("_T", bound=msgspec.Struct)


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in *body*.

    Raises:
        ApiError: it is no JSON, or no object.
    """
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(lowered(str(error))) from None
    if not isinstance(raw, dict):
        raise invalid(Fault(field="", message="the body must be a JSON object"))
    return raw


def _malformed(why: str) -> ApiError:
    return ApiError(400, "malformed_json", f"the body is not JSON: {why}")


def with_integers(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    """*raw* with 3 for 3.0 in fields that hold integers: in JSON they are the same number."""
    whole = {
        name: int(raw[name])
        for name in names
        if isinstance(raw.get(name), float) and raw[name].is_integer()
    }
    return {**raw, **whole}


def fitted(raw: dict[str, Any], kind: type[_T]) -> _T:
    """*raw* as *kind*, a struct that forbids unknown fields.

    Raises:
        ApiError: it does not fit; every fault is named.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        faults = _faults(raw, kind) or [Fault(field="", message=lowered(str(error)))]
        raise invalid(*faults) from None


def unknown_fields(raw: dict[str, Any], kind: type[msgspec.Struct]) -> list[Fault]:
    """The faults of fields that *kind* does not have."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    return [_unknown(name, known) for name in raw if name not in known]


def _faults(raw: dict[str, Any], kind: type[_T]) -> list[Fault]:
    found = unknown_fields(raw, kind)
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if name in raw:
            try:
                msgspec.convert(raw[name], field.type)
            except msgspec.ValidationError as error:
                found.append(Fault(field=_place(name, str(error)), message=lowered(str(error))))
        elif field.required:
            found.append(Fault(field=name, message="is required"))
    return found


def _unknown(name: str, known: list[str]) -> Fault:
    """The fault of a field that nobody reads, which is mostly a misspelt one."""
    near = get_close_matches(name.replace("_", ""), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return Fault(field=name[:100], message=f"is unknown; {hint}")


def _place(name: str, message: str) -> str:
    """Where in the field: msgspec writes ``$[0]`` or ``$.fraction`` after the message."""
    place = message.partition(" - at `$")[2].removesuffix("`")
    return f"{name}{place}"
