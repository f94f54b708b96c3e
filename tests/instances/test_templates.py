"""Templates: which ids are accepted, what is read from the provider's answer, what is refused."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.instances.provider import EnvVar, Port, ProviderRefused, Template
from durably.instances.templates import InvalidTemplate, parse_template, template_id

Raw = dict[str, Any]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def raw_template(**changes: object) -> Raw:
    raw: Raw = {
        "Id": "107672",
        "name": "jupyter",
        "image": "example/jupyter:1",
        "imageAuth": "auth-7",
        "startCommand": "start.sh --lab",
        "ports": [{"type": "http", "ports": [8888, 8080]}, {"type": "tcp", "ports": [22]}],
        "envs": [{"key": "TOKEN", "value": "s3cret"}, {"key": "EMPTY", "value": ""}],
        "readme": "ignored",
    }
    return raw | changes


def test_every_used_member_is_kept_and_ports_are_flattened_in_order() -> None:
    """Image, registry auth id, start command, ports in their order and variables survive."""
    template = parse_template(raw_template())

    assert template == Template(
        id="107672",
        name="jupyter",
        image="example/jupyter:1",
        image_auth_id="auth-7",
        command="start.sh --lab",
        ports=(
            Port(port=8888, type="http"),
            Port(port=8080, type="http"),
            Port(port=22, type="tcp"),
        ),
        envs=(EnvVar(key="TOKEN", value="s3cret"), EnvVar(key="EMPTY", value="")),
    )


@pytest.mark.parametrize("absent", [None, "missing"])
def test_missing_or_null_members_that_are_optional_are_empty(absent: str | None) -> None:
    """Ports, variables, name, auth and command may be missing or null."""
    raw = raw_template()
    for field in ("ports", "envs", "name", "imageAuth", "startCommand"):
        if absent is None:
            raw[field] = None
        else:
            del raw[field]

    template = parse_template(raw)

    assert (template.ports, template.envs) == ((), ())
    assert (template.name, template.image_auth_id, template.command) == ("", None, None)


def test_numbers_where_the_provider_means_texts_are_accepted() -> None:
    """An id or registry auth id that comes as a number is the same as its text."""
    template = parse_template(raw_template(Id=107672, imageAuth=12))

    assert (template.id, template.image_auth_id) == ("107672", "12")


def test_port_numbers_may_be_texts_and_types_in_capitals() -> None:
    """``"8888"`` under ``HTTP`` is port 8888 of type http."""
    template = parse_template(raw_template(ports=[{"type": "HTTP", "ports": ["8888"]}]))

    assert template.ports == (Port(port=8888, type="http"),)


@pytest.mark.parametrize("kind", ["tcp", "udp", "http", "https"])
def test_all_four_port_types_are_accepted(kind: str) -> None:
    """A template may declare tcp, udp, http and https ports."""
    template = parse_template(raw_template(ports=[{"type": kind, "ports": [1, 65535]}]))

    assert template.ports == (Port(port=1, type=kind), Port(port=65535, type=kind))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Id": None}, "template Id is missing"),
        ({"Id": " "}, "template Id is missing"),
        ({"image": None}, "template 107672: image is missing"),
        ({"image": "  "}, "template 107672: image is missing"),
        ({"image": ["a"]}, "template 107672: image must be a string, got list"),
        ({"startCommand": {}}, "template 107672: startCommand must be a string, got dict"),
        ({"imageAuth": True}, "template 107672: imageAuth must be a string, got bool"),
        ({"ports": "80/http"}, "template 107672: ports must be a list, got str"),
        ({"ports": [80]}, "template 107672: ports[0] must be an object, got int"),
        (
            {"ports": [{"type": "sctp", "ports": [80]}]},
            "template 107672: ports[0].type must be one of tcp, udp, http, https, got 'sctp'",
        ),
        (
            {"ports": [{"ports": [80]}]},
            "template 107672: ports[0].type must be one of tcp, udp, http, https, got None",
        ),
        (
            {"ports": [{"type": "tcp", "ports": 80}]},
            "template 107672: ports[0].ports must be a list, got int",
        ),
        (
            {"ports": [{"type": "http", "ports": [80]}, {"type": "tcp", "ports": [22, 65536]}]},
            "template 107672: ports[1].ports[1] must be a port from 1 to 65535, got 65536",
        ),
        ({"envs": {}}, "template 107672: envs must be a list, got dict"),
        ({"envs": [None]}, "template 107672: envs[0] must be an object, got null"),
        (
            {"envs": [{"key": "A", "value": "1"}, {"key": " ", "value": "1"}]},
            "template 107672: envs[1].key must be a non-empty string",
        ),
        ({"envs": [{"value": "1"}]}, "template 107672: envs[0].key must be a non-empty string"),
        (
            {"envs": [{"key": "A", "value": 98765}]},
            "template 107672: envs[0].value must be a string, got int",
        ),
        ({"envs": [{"key": "A"}]}, "template 107672: envs[0].value must be a string, got null"),
    ],
)
def test_a_wrong_member_is_named(changes: Raw, message: str) -> None:
    """The error says which member is wrong and how."""
    with pytest.raises(InvalidTemplate) as caught:
        parse_template(raw_template(**changes))

    assert str(caught.value) == message


@pytest.mark.parametrize("port", [0, -1, 65_536, True, 80.5, None, "", "eighty", "80.5", "१", [80]])
def test_what_is_no_port_number_is_refused(port: object) -> None:
    """Only whole numbers from 1 to 65535 are ports."""
    with pytest.raises(InvalidTemplate, match="must be a port from 1 to 65535"):
        parse_template(raw_template(ports=[{"type": "tcp", "ports": [port]}]))


@pytest.mark.parametrize("raw", [None, [], "template", 7])
def test_a_body_that_is_no_object_is_refused(raw: object) -> None:
    """Null and everything else that is no object is no template."""
    with pytest.raises(InvalidTemplate, match="template must be an object"):
        parse_template(raw)


@given(st.tuples(st.sampled_from(sorted(raw_template())), JSON))
def test_any_json_in_any_member_is_parsed_or_refused(change: tuple[str, object]) -> None:
    """Whatever the provider puts in a member, the result is a template or InvalidTemplate."""
    field, value = change
    try:
        template = parse_template(raw_template(**{field: value}))
    except InvalidTemplate:
        return

    assert all(1 <= port.port <= 65_535 for port in template.ports)
    assert template.image


def test_an_invalid_template_is_a_permanent_refusal() -> None:
    """The workflow treats it like any other refusal: it is not tried again."""
    assert issubclass(InvalidTemplate, ProviderRefused)


@pytest.mark.parametrize(
    ("value", "expected"), [("abc", "abc"), (" 107672 ", "107672"), (107672, "107672"), (1, "1")]
)
def test_strings_and_positive_integers_are_template_ids(value: object, expected: str) -> None:
    """A number and its text are the same id; outer blanks do not count."""
    assert template_id(value) == expected


@pytest.mark.parametrize("value", [None, "", "  ", 0, -5, True, 1.5, [], {}])
def test_everything_else_is_no_template_id(value: object) -> None:
    """The error is the sentence that clients of the service know."""
    with pytest.raises(ValueError, match="Template ID") as caught:
        template_id(value)

    assert str(caught.value) == (
        "Template ID is required and must be a non-empty string or valid positive integer"
    )


@pytest.mark.parametrize("show", [repr, str])
def test_values_of_variables_are_not_shown(show: Callable[[object], str]) -> None:
    """The repr of a template names its variables but keeps their values to itself."""
    shown = show(parse_template(raw_template()))

    assert "TOKEN" in shown
    assert "s3cret" not in shown


def test_a_template_survives_json() -> None:
    """A parsed template can be stored and read again, with its secrets: a durable step does so."""
    template = parse_template(raw_template())

    stored = msgspec.json.encode(template)

    assert msgspec.json.decode(stored, type=Template) == template
