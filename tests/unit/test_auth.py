"""Tokens: their form, their roles, and that none is kept or shown."""

import hashlib

import pytest

from durably.server.auth import Principal, Role, Tokens

TOKEN = "0123456789abcdef-token"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


def test_a_token_is_found_with_its_role_and_a_name_that_does_not_give_it_away() -> None:
    """The name is the role and the beginning of the digest."""
    tokens = Tokens.parse(f"viewer:other-token-012345,\n operator:{TOKEN}\n")
    assert tokens.find(TOKEN) == Principal(name=f"operator-{DIGEST[:8]}", role=Role.OPERATOR)
    assert tokens.find("other-token-012345") is not None
    assert tokens.find("") is None
    assert tokens.find(TOKEN + " ") is None
    assert tokens.find(DIGEST) is None


def test_a_digest_stands_for_its_token() -> None:
    """So that no setting need hold the token itself."""
    tokens = Tokens.parse(f"admin:sha256:{DIGEST}")
    found = tokens.find(TOKEN)
    assert found is not None
    assert found.role is Role.ADMIN


@pytest.mark.parametrize("text", [None, ""])
def test_there_may_be_no_tokens(text: str | None) -> None:
    """Then there is nobody to find."""
    tokens = Tokens.parse(text)
    assert not tokens
    assert tokens.find(TOKEN) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOKEN, "token 1 needs the form role:token, roles: viewer, operator, admin"),
        (f"admin:{TOKEN},root:{TOKEN}x", "token 2 needs the form role:token"),
        (",", "need at least one role:token"),
        (" , \n", "need at least one role:token"),
        ("admin:short", "token 1 .admin. needs 16 to 512 visible ASCII characters"),
        ("admin:" + "x" * 513, "token 1 .admin. needs 16 to 512"),
        ("admin:0123456789 abcdef", "token 1 .admin. must not contain blanks"),
        ("admin:0123456789abcdéf", "token 1 .admin. needs 16 to 512 visible ASCII"),
        ("boss:abc,admin:short", "token 1 needs the form.*; token 2 .admin. needs 16"),
        ("admin:sha256:abc", "token 1 .admin. needs 64 lower-case hex digits"),
        (f"admin:{TOKEN},viewer:{TOKEN}", "token 2 is there twice"),
        (f"admin:sha256:{DIGEST},viewer:{TOKEN}", "token 2 is there twice"),
    ],
)
def test_a_token_that_cannot_be_used_is_named_by_its_place(text: str, said: str) -> None:
    """And never quoted."""
    with pytest.raises(ValueError, match=said) as caught:
        Tokens.parse(text)
    assert TOKEN not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_tokens_do_not_show_in_a_repr() -> None:
    """Only digests are kept."""
    assert TOKEN not in repr(vars(Tokens.parse(f"admin:{TOKEN}")))
