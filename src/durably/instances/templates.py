"""Checks templates: the ids that users give, and what the provider answers for them. No I/O."""

from collections.abc import Iterator

from durably.instances.provider import EnvVar, Port, ProviderRefused, Template

_PORT_TYPES = ("tcp", "udp", "http", "https")


class InvalidTemplate(ProviderRefused):
    """The provider's template cannot be used; the message names the field."""


_ID_LONGEST = 200


def template_id(value: object) -> str:
    """The id of a template as a string: ``107672`` and ``" 107672 "`` are the same template.

    Raises:
        ValueError: *value* is neither a non-blank string nor a positive integer, or too long.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and value.strip():
        if len(value) > _ID_LONGEST or not value.strip().isprintable():
            raise ValueError(
                f"Template ID must have at most {_ID_LONGEST} characters, no control characters"
            )
        return value.strip()
    raise ValueError(
        "Template ID is required and must be a non-empty string or valid positive integer"
    )


def parse_template(raw: object) -> Template:
    """The template in *raw*, the decoded ``template`` member of the provider's answer.

    Its shape is ``{Id, name, image, imageAuth, startCommand, ports: [{type, ports: [n]}],
    envs: [{key, value}]}``; other members are ignored, missing ``ports`` and ``envs`` are empty.

    Raises:
        InvalidTemplate: a member is missing or wrong; values of variables are never quoted.
    """
    if not isinstance(raw, dict):
        raise InvalidTemplate(f"template must be an object, got {_kind(raw)}")
    return Template(
        id=_id(raw),
        name=_text(raw, "name") or "",
        image=_image(raw),
        image_auth_id=_text(raw, "imageAuth"),
        command=_text(raw, "startCommand"),
        ports=tuple(_ports(raw)),
        envs=tuple(_envs(raw)),
    )


def _id(raw: dict[str, object]) -> str:
    try:
        return template_id(raw.get("Id", raw.get("id")))
    except ValueError:
        raise InvalidTemplate("template Id is missing") from None


def _image(raw: dict[str, object]) -> str:
    image = _text(raw, "image")
    if image is None:
        raise _invalid(raw, "image is missing")
    return image


def _text(raw: dict[str, object], field: str) -> str | None:
    """The text of *field*, a number included; None when it is missing or blank."""
    value = raw.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _invalid(raw, f"{field} must be a string, got {_kind(value)}")
    return str(value).strip() or None


def _ports(raw: dict[str, object]) -> Iterator[Port]:
    for index, group in enumerate(_items(raw, raw.get("ports"), "ports")):
        where = f"ports[{index}]"
        if not isinstance(group, dict):
            raise _invalid(raw, f"{where} must be an object, got {_kind(group)}")
        kind = str(group.get("type")).lower()
        if kind not in _PORT_TYPES:
            known = ", ".join(_PORT_TYPES)
            raise _invalid(raw, f"{where}.type must be one of {known}, got {group.get('type')!r}")
        for number, port in enumerate(_items(raw, group.get("ports"), f"{where}.ports")):
            yield Port(port=_port(raw, port, f"{where}.ports[{number}]"), type=kind)


def _port(raw: dict[str, object], value: object, where: str) -> int:
    # A string is read by its text, so that neither 80.5 nor true becomes a port.
    text = str(value) if isinstance(value, str | int) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= 65_535:
        raise _invalid(raw, f"{where} must be a port from 1 to 65535, got {value!r}")
    return number


def _envs(raw: dict[str, object]) -> Iterator[EnvVar]:
    for index, env in enumerate(_items(raw, raw.get("envs"), "envs")):
        where = f"envs[{index}]"
        if not isinstance(env, dict):
            raise _invalid(raw, f"{where} must be an object, got {_kind(env)}")
        key, value = env.get("key"), env.get("value")
        if not isinstance(key, str) or not key.strip():
            raise _invalid(raw, f"{where}.key must be a non-empty string")
        if not isinstance(value, str):
            raise _invalid(raw, f"{where}.value must be a string, got {_kind(value)}")
        yield EnvVar(key=key, value=value)


def _items(raw: dict[str, object], value: object, where: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(raw, f"{where} must be a list, got {_kind(value)}")
    return value


def _invalid(raw: dict[str, object], problem: str) -> InvalidTemplate:
    return InvalidTemplate(f"template {_id(raw)}: {problem}")


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
