"""What is hidden, and what comes back when it is sent back hidden."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durably.server.redaction import RedactedValueError, Redactor

REDACTOR = Redactor(("password", "Card"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "[redacted]"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["password", "PASSWORD", "card", "headers", "Cookie", "a", "b"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_named_fields_are_hidden_at_any_depth() -> None:
    """Whatever their case and whatever they hold; the value given is not changed."""
    value = {"Password": "p", "card": {"number": 1}, "list": [[{"CARD": None}]], "passwords": "p"}
    before = repr(value)
    assert REDACTOR.hide(value) == {
        "Password": "[redacted]",
        "card": "[redacted]",
        "list": [[{"CARD": "[redacted]"}]],
        "passwords": "p",
    }
    assert repr(value) == before


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "password", [], {}, ["password"]])
def test_what_has_no_such_field_is_shown_as_it_is(value: Any) -> None:
    """Values are never looked into, only names."""
    assert REDACTOR.hide(value) == value


@pytest.mark.parametrize(
    "name",
    ["Authorization", "authorization", "Cookie", "X-Api-Key", "x-auth-token", "X-Client-Secret"],
)
def test_credentials_in_headers_are_always_hidden(name: str) -> None:
    """Without any setting, in every object called headers and only there."""
    plain = Redactor()
    assert plain.hide({"headers": {name: "x", "Accept": "y"}, name: "z"}) == {
        "headers": {name: "[redacted]", "Accept": "y"},
        name: "z",
    }
    assert plain.hide({name: "x"}, headers=True) == {name: "[redacted]"}


def test_depth_is_no_limit() -> None:
    """What is nested more deeply than Python may call is hidden all the same."""
    value: Any = {"password": "p"}
    for _ in range(5_000):
        value = [value]
    hidden = REDACTOR.hide(value)
    for _ in range(5_000):
        [hidden] = hidden
    assert hidden == {"password": "[redacted]"}


@given(JSON)
def test_what_is_sent_back_as_it_was_shown_is_what_it_was(value: Any) -> None:
    """Nothing is lost, whatever has been hidden."""
    assert REDACTOR.restore(REDACTOR.hide(value), value) == value


def test_edits_stay_and_hidden_values_come_back() -> None:
    """Also a new value for a hidden field, and a field that is gone."""
    original = {"user": "ann", "password": "p1", "card": 7, "list": [{"card": 1}, {"card": 2}]}
    edited = {
        "user": "bob",
        "password": "[redacted]",
        "card": 8,
        "list": [{"card": "[redacted]"}, 5],
    }
    assert REDACTOR.restore(edited, original) == {
        "user": "bob",
        "password": "p1",
        "card": 8,
        "list": [{"card": 1}, 5],
    }


def test_elements_keep_their_own_values_when_they_move() -> None:
    """Swapped or after one is removed, by what is shown of them."""
    ann, bob = {"user": "ann", "password": 1}, {"user": "bob", "password": 2}
    shown = REDACTOR.hide([ann, bob])
    assert REDACTOR.restore(shown[::-1], [ann, bob]) == [bob, ann]
    assert REDACTOR.restore(shown[1:], [ann, bob]) == [bob]


@pytest.mark.parametrize(
    ("edited", "original"),
    [
        ({"password": "[redacted]"}, {}),
        ({"password": "[redacted]"}, None),
        ({"a": {"password": "[redacted]"}}, {"a": [1]}),
        ([{"card": "[redacted]"}], [{"card": 1}, {"card": 2}]),
        ([{"card": "[redacted]"}] * 3, [{"card": 1}, {"card": 2}]),
    ],
)
def test_a_hidden_value_that_cannot_be_told_is_refused(edited: Any, original: Any) -> None:
    """Rather than one value too many in a wrong place."""
    with pytest.raises(RedactedValueError, match="stands for no value"):
        REDACTOR.restore(edited, original)


def test_the_word_elsewhere_is_a_text_like_any_other() -> None:
    """It means something only where a value was hidden."""
    assert REDACTOR.restore({"a": "[redacted]"}, {"a": 1}) == {"a": "[redacted]"}
    assert REDACTOR.restore("[redacted]", {"password": 1}) == "[redacted]"
