"""Signing in on the dashboard: cookies that hold, end, and can be used by nobody else."""

from http.cookies import SimpleCookie

import pytest
from tests.server.support import ADMIN, OPERATOR, TOKENS, VIEWER, Answer, Api, running

from durably import JobQueueService
from durably.server.auth import Role, Tokens
from durably.server.sessions import CODE_S, SESSION_S, Sessions, session_key
from durably.testing import VirtualClock

KEY = b"0123456789abcdef" * 2


def sessions(tokens: str = TOKENS) -> tuple[Sessions, VirtualClock]:
    clock = VirtualClock()
    return Sessions(KEY, Tokens.parse(tokens), clock, new_code=lambda: "a-code"), clock


def principal(tokens: str, token: str) -> str:
    found = Tokens.parse(tokens).find(token)
    assert found is not None
    return found.name


async def test_a_session_is_its_tokens_until_twelve_hours_have_passed() -> None:
    """Name and role are those of the token; then the session is over."""
    made, clock = sessions()
    found = Tokens.parse(TOKENS).find(OPERATOR)
    assert found is not None
    cookie = made.begin(found)
    for waited in (0, SESSION_S - 1):
        await clock.advance(waited)
        signed_in = made.find(cookie)
        assert signed_in is not None
        assert (signed_in.name, signed_in.role) == (found.name, found.role)
    await clock.advance(1)
    assert made.find(cookie) is None


def test_a_session_ends_with_its_token() -> None:
    """Who takes a token out of the setting ends what was signed in with it."""
    made, _ = sessions()
    found = Tokens.parse(TOKENS).find(OPERATOR)
    assert found is not None
    cookie = made.begin(found)
    others, _ = sessions(f"viewer:{VIEWER}")
    assert others.find(cookie) is None


def test_no_other_cookie_is_a_session() -> None:
    """Not one with a bit changed, cut short, of another key, or that is no cookie of ours at all."""
    made, clock = sessions()
    found = Tokens.parse(TOKENS).find(ADMIN)
    assert found is not None
    cookie = made.begin(found)
    flipped = [
        f"{cookie[:i]}{'A' if cookie[i] != 'A' else 'B'}{cookie[i + 1 :]}" for i in (0, 30, 50)
    ]
    foreign = Sessions(b"x" * 32, Tokens.parse(TOKENS), clock).begin(found)
    for value in (*flipped, cookie[:-4], foreign, "", "!", "é", "AAAA", cookie + "==" * 9):
        assert value == cookie or made.find(value) is None or value.startswith(cookie), value


async def test_a_link_signs_in_once_and_not_for_long() -> None:
    """Its code is used up by the first, is not good after 15 minutes, and none is good before."""
    made, clock = sessions()
    assert made.accept("a-code") is None
    code = made.invite()
    assert made.accept("another") is None
    signed_in = made.accept(code)
    assert signed_in is not None
    assert signed_in.role is Role.ADMIN
    assert made.accept(code) is None
    late = made.invite()
    await clock.advance(CODE_S)
    assert made.accept(late) is None


async def test_the_key_is_the_stores_and_only_its_maker_is_told_so() -> None:
    """Every server on a store signs with the same key; the first run is known by having made it."""
    async with JobQueueService("memory://") as queue:
        key, made = await session_key(queue)
        again, made_again = await session_key(queue)
    assert (key, made, made_again) == (again, True, False)
    assert len(key) == 32


# Over HTTP


def cookie_of(answer: Answer) -> tuple[str, str, SimpleCookie]:
    """Name and value of the cookie that an answer sets, and all that it says of it."""
    parsed = SimpleCookie(answer.headers["Set-Cookie"])
    [(name, morsel)] = parsed.items()
    return name, morsel.value, parsed


async def signed_in(api: Api, token: str) -> dict[str, str]:
    """The headers of a browser that has signed in with *token*, on a page of the server."""
    answer = await api.post("/api/session", {"token": token})
    assert answer.status == 200, answer.body
    name, value, _ = cookie_of(answer)
    return {"Cookie": f"other=1; {name}={value}", "Origin": api.url}


async def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use() -> None:
    """HttpOnly, SameSite=Strict, for 12 hours; Secure behind a proxy that speaks https."""
    async with running(tokens=TOKENS, started=False) as api:
        answer = await api.post("/api/session", {"token": OPERATOR})
        name, _, cookie = cookie_of(answer)
        assert answer.json["role"] == "operator"
        assert answer.json["name"] == principal(TOKENS, OPERATOR)
        assert answer.json["local"] is False
        morsel = cookie[name]
        assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
        assert morsel["max-age"] == str(SESSION_S)
        assert not morsel["secure"]
        behind = await api.post(
            "/api/session", {"token": OPERATOR}, headers={"X-Forwarded-Proto": "https"}
        )
        assert "; Secure" in behind.headers["Set-Cookie"]
        assert OPERATOR not in answer.headers["Set-Cookie"]


async def test_a_session_may_do_what_its_token_may() -> None:
    """Reading and changing work with the cookie alone, within the role."""
    async with running(tokens=TOKENS, started=False) as api:
        operator = await signed_in(api, OPERATOR)
        assert (await api.get("/api/session", headers=operator)).json["role"] == "operator"
        assert (await api.get("/api/jobs", headers=operator)).status == 200
        body = {"type": "noop"}
        assert (await api.post("/api/jobs", body, headers=operator)).status == 202
        (await api.get("/api/audit", headers=operator)).problem(403, "forbidden")
        viewer = await signed_in(api, VIEWER)
        (await api.post("/api/jobs", body, headers=viewer)).problem(403, "forbidden")
        admin = await signed_in(api, ADMIN)
        entries = (await api.get("/api/audit", headers=admin)).json["entries"]
        assert [entry["by"] for entry in entries] == [principal(TOKENS, OPERATOR)]


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "http://localhost:1", "https://127.0.0.1", "http://["],
)
async def test_no_other_page_changes_anything_with_a_session(origin: str | None) -> None:
    """403 unless the request names this server as its origin; reading is the browser's to refuse."""
    async with running(tokens=TOKENS, started=False) as api:
        headers = await signed_in(api, ADMIN)
        del headers["Origin"]
        if origin is not None:
            headers["Origin"] = origin
        answer = await api.post("/api/jobs", {"type": "noop"}, headers=headers)
        answer.problem(403, "forbidden")
        assert (await api.get("/api/jobs", headers=headers)).json["jobs"] == []


async def test_nobody_is_signed_in_from_another_page() -> None:
    """A page elsewhere cannot sign a browser in as somebody of its choice."""
    async with running(tokens=TOKENS, started=False) as api:
        answer = await api.post(
            "/api/session", {"token": VIEWER}, headers={"Origin": "http://evil.example"}
        )
        answer.problem(403, "forbidden")
        assert "Set-Cookie" not in answer.headers


async def test_who_is_not_signed_in_is_told_so() -> None:
    """401 without, with an unknown token, with a used link; the answer does not repeat what was given."""
    async with running(tokens=TOKENS, started=False) as api:
        (await api.get("/api/session")).problem(401, "unauthorized")
        for body in (
            {"token": "unknown-token-0123456"},
            {"token": "ünknown"},
            {"token": ""},
        ):
            answer = await api.post("/api/session", body)
            answer.problem(401, "unauthorized")
            assert "nknown-" not in answer.json["detail"]
        wrong: tuple[dict[str, object], ...] = ({}, {"token": OPERATOR, "code": "x"}, {"token": 3})
        for refused in wrong:
            (await api.post("/api/session", refused)).problem(400, "validation_failed")


async def test_the_link_signs_a_browser_in_once() -> None:
    """As the token with the highest role."""
    async with running(tokens=TOKENS, started=False) as api:
        code = api.service.sessions.invite()
        assert (await api.post("/api/session", {"token": code})).json["role"] == "admin"
        (await api.post("/api/session", {"token": code})).problem(401, "unauthorized")


async def test_a_stream_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes again is asked who it is; a token's stream goes on."""
    monkeypatch.setattr("durably.server.live.BEAT_S", 0.05)
    async with running(tokens=TOKENS, started=False) as api:
        monkeypatch.setattr("durably.server.sessions.SESSION_S", 1)
        headers = await signed_in(api, VIEWER)
        url = f"{api.url}/api/live?topic=shell"
        async with api.session.get(url, headers=headers) as ending:
            assert b"event: shell" in await ending.read()
        assert (await api.get("/api/live?topic=shell", headers=headers)).status == 401


async def test_signing_out_makes_the_browser_forget() -> None:
    """The cookie is emptied and ends at once."""
    async with running(tokens=TOKENS, started=False) as api:
        headers = await signed_in(api, VIEWER)
        answer = await api.delete("/api/session", headers=headers)
        assert answer.status == 204
        name, value, cookie = cookie_of(answer)
        assert (value, cookie[name]["max-age"]) == ("", "0")


async def test_a_token_in_the_header_counts_before_a_session() -> None:
    """A script that sends a token is judged by it, whatever its cookies say."""
    async with running(tokens=TOKENS, started=False) as api:
        headers = await signed_in(api, ADMIN)
        wrong = {**headers, "Authorization": "Bearer wrong"}
        (await api.get("/api/jobs", headers=wrong)).problem(401, "unauthorized")
        viewer = {**headers, "Authorization": f"Bearer {VIEWER}"}
        assert (await api.get("/api/session", headers=viewer)).json["role"] == "viewer"


async def test_without_tokens_everybody_is_local() -> None:
    """Nobody signs in or out; the page is told so."""
    async with running(started=False) as api:
        told = (await api.get("/api/session")).json
        assert (told["name"], told["role"], told["local"]) == ("local", "admin", True)
        answer = await api.post("/api/session", {"token": "any"})
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
