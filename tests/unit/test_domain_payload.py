import dataclasses
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably import PayloadError
from durably.domain.payload import (
    DEPTH_MOST,
    PAYLOAD_MAX_BYTES,
    Shape,
    check_text,
    clean_text,
    decode,
    encode,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate is no text that UTF-8 can carry.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


class Point(msgspec.Struct):
    x: float
    y: float | None = None


@dataclasses.dataclass
class Shopping:
    items: list[str]
    total: float = 0.0


class Model:
    """Looks like a pydantic model, as far as anybody asks."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        return dict(self.fields)

    @classmethod
    def model_validate(cls, value: Any) -> "Model":
        if "name" not in value:
            raise ValueError("name is missing")
        return cls(**value)


def nested(levels: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


# Encoding


@given(json_values)
def test_json_comes_back_as_it_went_in(value: Any) -> None:
    """Whatever JSON can say is kept exactly, and is JSON to others too."""
    text = encode(value)

    assert decode(text) == value
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), {"x": 1.0, "y": 2.0}),
        (Point(1), {"x": 1.0, "y": None}),
        (Shopping(["a"]), {"items": ["a"], "total": 0.0}),
        (Model(a=1, b=[None]), {"a": 1, "b": [None]}),
        ({"deep": [Model(a=Point(0))]}, {"deep": [{"a": {"x": 0, "y": None}}]}),
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (b"ab", "YWI="),
        ({1: 2}, {"1": 2}),
        (10**40, 10**40),
        (-(2**64), -(2**64)),
        ("\0", "\0"),
    ],
)
def test_more_than_json_can_be_encoded(value: Any, expected: Any) -> None:
    """Structs, dataclasses, models, tuples, sets, bytes and large ints become plain JSON."""
    assert decode(encode(value)) == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: n,
        lambda n: [1, [n]],
        lambda n: (None, n),
        lambda n: {"a": {"b": n}},
        lambda n: {n, 1.0},
        Point,
        lambda n: [Shopping([], n)],
        lambda n: Model(a=[n]),
    ],
)
def test_what_is_no_number_is_refused(number: float, wrap: Any) -> None:
    """NaN and infinity, which JSON lacks, are not written as null in silence, however wrapped."""
    with pytest.raises(PayloadError, match="NaN or infinity"):
        encode(wrap(number))


@pytest.mark.parametrize(
    "value", [None, [None, 1.5], {"null": None}, "null", Model(a=None), Point(1), Model]
)
def test_none_is_no_nan(value: Any) -> None:
    """What holds null rightly is taken, and a class is no model."""
    if value is Model:
        with pytest.raises(PayloadError, match="not JSON-able"):
            encode([None, value])
    else:
        assert "null" in encode(value)


@pytest.mark.parametrize(
    "value", [object(), {1, object()}, {(1, 2): 3}, int, print, 1j, iter(()), {"a": ...}]
)
def test_what_is_not_jsonable_is_refused(value: Any) -> None:
    """PayloadError, a ValueError, names what was wrong."""
    with pytest.raises(PayloadError, match="payload is not JSON-able"):
        encode(value)
    assert issubclass(PayloadError, ValueError)


def test_a_model_that_raises_is_a_bad_payload() -> None:
    """Whatever a foreign model raises comes as PayloadError, with the cause."""

    class Broken(Model):
        def model_dump(self, mode: str = "python") -> dict[str, Any]:
            raise RuntimeError("broken inside")

    with pytest.raises(PayloadError, match="broken inside") as caught:
        encode(Broken())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_cycle_is_refused() -> None:
    """What holds itself has no end, by lists, dicts or models."""
    circular: list[Any] = []
    circular.append({"again": circular})
    model = Model()
    model.fields["me"] = model

    for value in (circular, model):
        with pytest.raises(PayloadError, match="nested too deeply or refers to itself"):
            encode(value)


def test_nesting_has_a_limit_that_every_reader_can_take() -> None:
    """The limit itself is taken; a level more is refused, with or without null in it."""
    assert decode(encode(nested(DEPTH_MOST))) == nested(DEPTH_MOST)
    for levels in (DEPTH_MOST + 1, 600, 950, 100_000):
        for innermost in (1, None, '"[{\\'):
            with pytest.raises(PayloadError, match="nested"):
                encode(nested(levels, innermost))


def test_brackets_in_texts_are_no_nesting() -> None:
    """Flat payloads may hold any number of brackets, lists and quotes."""
    flat = [['["{\\"' * 100, {"[": "]"}]] * 1_000

    assert decode(encode(flat)) == flat


def test_the_limit_is_a_mebibyte_of_json() -> None:
    """Exactly 1,048,576 bytes of UTF-8 are taken; one more is refused with both sizes."""
    assert PAYLOAD_MAX_BYTES == 1_048_576
    fits = "x" * (PAYLOAD_MAX_BYTES - 2)
    assert len(encode(fits)) == PAYLOAD_MAX_BYTES
    with pytest.raises(PayloadError, match="at most 1,048,576 bytes of JSON, got 1,048,577"):
        encode(fits + "x")
    with pytest.raises(PayloadError, match="at most"):
        encode("é" * (PAYLOAD_MAX_BYTES // 2))


@pytest.mark.parametrize("value", ["\ud800", ["a", "\udfff"], {"\ud800": 1}], ids=ascii)
def test_lone_surrogates_are_refused(value: Any) -> None:
    """Half a character cannot be stored."""
    with pytest.raises(PayloadError, match="payload holds text with lone surrogates"):
        encode(value)


def test_the_message_says_what_was_encoded() -> None:
    """A result that is wrong is not called a payload."""
    with pytest.raises(PayloadError, match="result of step 'a' is not JSON-able"):
        encode(object(), what="result of step 'a'")
    with pytest.raises(PayloadError, match="message must be at most 10 bytes"):
        encode("x" * 20, what="message", limit=10)


# Shapes


def test_a_shape_converts() -> None:
    """JSON becomes the type: a struct, a dataclass, a model, a plain annotation."""
    assert Shape(Point).decode('{"x":1}') == Point(1)
    assert Shape(Shopping).decode('{"items":["a"]}') == Shopping(["a"])
    assert Shape(list[int]).decode("[1,2]") == [1, 2]
    model = Shape(Model).decode('{"name":"n"}')
    assert isinstance(model, Model)
    assert model.fields == {"name": "n"}


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        (Point, '{"x":"one"}', r"Point: .*\$\.x"),
        (Point, "{}", "Point: .*missing required field `x`"),
        (Point, "null", "Point: "),
        (Shopping, '{"items":[1]}', r"Shopping: .*\$\.items\[0\]"),
        (list[int], '["a"]', r"list\[int\]: .*\$\[0\]|list: .*\$\[0\]"),
        (Model, "{}", "Model: name is missing"),
    ],
)
def test_what_does_not_fit_is_refused(kind: Any, text: str, place: str) -> None:
    """PayloadError names the type and the place that does not fit."""
    with pytest.raises(PayloadError, match=f"payload does not fit {place}"):
        Shape(kind).decode(text)


def test_an_impossible_shape_is_refused() -> None:
    """TypeError at once for a type that nothing could be converted to."""
    with pytest.raises(TypeError, match=r"payload type .* is not supported"):
        Shape(int | Point | Shopping)


# Texts


@pytest.mark.parametrize("value", ["a", "x" * 10, "é", "with space", "\u2028"])
def test_a_text_that_fits_comes_back(value: str) -> None:
    """One to *longest* characters."""
    assert check_text("type", value, longest=10) == value


@pytest.mark.parametrize("value", ["", "x" * 11, "a\0b", "\ud800"], ids=ascii)
def test_a_text_that_does_not_fit_is_refused(value: str) -> None:
    """ValueError names the argument: empty, too long, NUL, lone surrogates."""
    with pytest.raises(ValueError, match="type must"):
        check_text("type", value, longest=10)


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    """TypeError names the argument and the value."""
    with pytest.raises(TypeError, match="type must be a str, got"):
        check_text("type", value, longest=10)


@given(st.text(), st.integers(2, 50))
def test_any_text_can_be_made_clean(value: str, longest: int) -> None:
    """An error message becomes storable, keeps its ends, and is no longer than about the limit."""
    cleaned = clean_text(value, longest=longest)

    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) <= longest + 60
    if len(value) <= longest:
        assert len(cleaned) == len(value)
    else:
        assert "characters left out" in cleaned


def test_a_clean_text_is_not_changed() -> None:
    """Only what no store can keep is replaced."""
    assert clean_text("née 😀\n") == "née 😀\n"
    assert clean_text("a\0b\ud800c") == "a\ufffdb?c"
