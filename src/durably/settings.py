"""Settings: their names, defaults and ranges, and how they are read, all faults at once.

Left out: what a store URL, secret or address may look like. Their owners know; `durably.app` hands
over their checks.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from durably.domain.errors import SettingsError
from durably.domain.outcome import LONGEST_DELAY

FILE_NAME = "durably.toml"
SECRETS = frozenset({"novita_api_key", "tokens", "webhook_secret"})
"""Fields whose values are shown nowhere, and may be given as the name of a file that holds them."""

Seconds: TypeAlias = Annotated[
    float, Meta(ge=0, le=LONGEST_DELAY, description="seconds, 0 or more, such as 2.5")
]
Interval: TypeAlias = Annotated[
    float, Meta(ge=0.001, le=LONGEST_DELAY, description="seconds, 0.001 or more, such as 30")
]
Text: TypeAlias = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Check: TypeAlias = Callable[[Any], object]
"""Raises ValueError for a value that cannot be used; its message must not quote a secret."""


DEFAULT = "default"
"""The source of a value that was not given."""


Judge: TypeAlias = Callable[["Settings"], Iterable[tuple[str, str]]]


class Settings(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Every setting with its default. Durations are seconds.

    The environment variable of a field is its name in upper case, with ``DURABLY_`` before it
    unless it begins with ``NOVITA_``; in ``durably.toml`` the key is the field's name.
    """

    store: Annotated[str, Meta(min_length=1, description="a store URL")] = "sqlite:///durably.db"
    lease: Interval = 30.0
    """A worker that is silent for longer loses its jobs to others."""
    retention: Seconds = 86_400.0
    """Final jobs are removed when they are older."""
    host: Text = "127.0.0.1"
    """Where `serve` listens; without tokens a loopback address."""
    port: Annotated[int, Meta(ge=0, le=65_535, description="a port, or 0 for any free one")] = 8000
    concurrency: Annotated[
        int, Meta(ge=1, le=100_000, description="a whole number from 1 to 100,000")
    ] = 32
    """Jobs at a time in a process of `serve` or `worker`."""
    tokens: Text | None = None
    """Who may use the HTTP API: role:token,… with the roles viewer, operator and admin."""
    rate_limit: Seconds = 10_000.0
    """Requests per second and token; 0: no limit."""
    webhook_secret: Text | None = None
    """Signs webhooks; None: generated once and kept in the store."""
    webhook_allow: Annotated[
        tuple[Text, ...], Meta(description="host names, addresses or networks such as 10.0.0.0/8")
    ] = ()
    """Hosts, addresses and CIDRs that webhooks may reach although they are not public."""
    redact: Annotated[
        tuple[Text, ...], Meta(description="names of payload fields such as password")
    ] = ()
    """Fields whose values the HTTP API does not show, at any depth; upper and lower case are one."""
    on_failure: Annotated[
        Literal["delete", "stop", "keep"], Meta(description="delete, stop or keep")
    ] = "delete"
    """What becomes of the upstream instance when a creation fails."""
    reconcile_interval: Interval = 300.0
    """Between comparisons of what the provider bills with what is wanted."""
    poll_interval: Interval = 30.0
    """Between looks at an instance that is starting."""
    max_wait_time: Interval = 1200.0
    """How long an instance may take to become ready."""
    max_retry_attempts: Annotated[
        int, Meta(ge=1, le=1_000, description="a whole number from 1 to 1,000")
    ] = 3
    """Of create and monitor jobs."""
    retry_base_delay: Interval = 1.0
    """After the first failure; it doubles with each further one."""
    novita_api_key: Text | None = None
    novita_api_base_url: Annotated[str, Meta(min_length=1, description="an http or https URL")] = (
        "https://api.novita.ai/gpu-instance/openapi/v1"
    )
    novita_timeout: Interval = 30.0
    """For one request to the provider."""

    def source(self, field: str) -> str:
        """Where the value of *field* comes from, for people; ``default`` when it was not given."""
        sources: dict[str, str] = getattr(self, "_sources", {})
        return sources.get(field, DEFAULT)

    def with_values(self, **values: Any) -> "Settings":
        """A copy with other values, whose sources stay."""
        copy = msgspec.structs.replace(self, **values)
        force_setattr(copy, "_sources", getattr(self, "_sources", {}))
        return copy

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Settings({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return self.shown()

    def shown(self) -> list[tuple[str, Any]]:
        """Every field and its value, for people: without secrets, and without a password."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        hidden = {name: "***" for name in SECRETS if values[name]}
        return list({**values, **hidden, "store": without_password(self.store)}.items())


def without_password(url: str) -> str:
    """A URL with *** for its password.

    >>> without_password("postgresql://ann:secret@db/jobs")
    'postgresql://ann:***@db/jobs'
    """
    url = re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", url)
    # One within the query may be quoted.
    return re.sub(r"(?<=%3A%2F%2F)([^&%]*)%3A[^&]*%40", r"\1%3A***%40", url, flags=re.IGNORECASE)


class _Given(msgspec.Struct, frozen=True):
    """A value as it was found."""

    value: object
    source: str
    """Where: for people."""
    text: bool
    """Whether it is text that stands for a number or a list, as in the environment."""


_TYPES: dict[str, Any] = get_type_hints(Settings, include_extras=True)
_DEFAULTS = Settings()


def environment_name(field: str) -> str:
    """The environment variable of a field, which is also what messages call the setting.

    >>> environment_name("store"), environment_name("novita_timeout")
    ('DURABLY_STORE', 'NOVITA_TIMEOUT')
    """
    name = field.upper()
    return name if name.startswith("NOVITA_") else f"DURABLY_{name}"


def load_settings(
    flags: Mapping[str, str | None],
    *,
    environ: Mapping[str, str],
    folder: Path,
    checks: Mapping[str, Check] | None = None,
    judge: Judge | None = None,
) -> Settings:
    """The settings from flags, then the environment, then ``durably.toml``, then the defaults.

    An empty environment variable counts as not set. A secret may be given as a file that holds it:
    by the same name with ``_FILE`` (``_file`` in ``durably.toml``).

    Args:
        flags: By field; None is a flag that was not given.
        environ: The environment.
        folder: Where ``durably.toml`` is looked for; it need not exist.
        checks: What else a value that was given must stand, by field.
        judge: Gets the usable values and gives (field, fault) of those that do not fit together.

    Raises:
        SettingsError: every fault, one a line: the setting, where it came from, what is needed.
    """
    faults: list[str] = []
    found = _from_file(folder / FILE_NAME, faults)
    found |= _from_environment(environ, faults)
    found |= {
        name: _Given(value, f"flag --{name.replace('_', '-')}", text=True)
        for name, value in flags.items()
        if value is not None
    }
    values: dict[str, Any] = {}
    for field, given in found.items():
        try:
            values[field] = _converted(field, given)
            if checks and field in checks:
                checks[field](values[field])
        except ValueError as error:
            faults.append(f"{environment_name(field)} ({given.source}): {error}")
    if judge is not None:
        for field, fault in judge(Settings(**values)):
            source = found[field].source if field in found else DEFAULT
            faults.append(f"{environment_name(field)} ({source}): {fault}")
    if faults:
        raise SettingsError("\n".join(faults))
    settings = Settings(**values)
    force_setattr(settings, "_sources", {field: one.source for field, one in found.items()})
    return settings


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for field in Settings.__struct_fields__:
        name = environment_name(field)
        if value := environ.get(name):
            found[field] = _Given(value, "environment", text=True)
        if field in SECRETS and (path := environ.get(f"{name}_FILE")):
            _add_secret(found, field, path, f"environment, {name}_FILE", faults)
    return found


def _from_file(path: Path, faults: list[str]) -> dict[str, _Given]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        faults.append(f"{path.name} is not UTF-8")
        return {}
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{path.name} is not TOML: {error}")
        return {}
    found = {
        field: _Given(content[field], path.name, text=False)
        for field in Settings.__struct_fields__
        if field in content
    }
    for field in sorted(SECRETS):
        if (key := f"{field}_file") in content:
            _add_secret(found, field, content[key], f"{path.name}, {key}", faults)
    faults += _unknown(content)
    return found


def _add_secret(
    found: dict[str, _Given], field: str, path: object, source: str, faults: list[str]
) -> None:
    """Put what the file holds into *found*."""
    name = environment_name(field)
    if field in found:
        faults.append(f"{name} ({source}): need the secret or its file, got both")
        return
    try:
        if not isinstance(path, str):
            raise ValueError("not a path")  # noqa: TRY004  # one error for all bad input
        secret = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        faults.append(f"{name} ({source}): need a file that can be read: {error.strerror}: {path}")
    except ValueError:
        faults.append(f"{name} ({source}): need the path of a text file")
    else:
        found[field] = _Given(secret, source, text=True)


def _unknown(keys: Iterable[str]) -> Iterator[str]:
    known = [*Settings.__struct_fields__, *(f"{field}_file" for field in sorted(SECRETS))]
    for key in keys:
        if key not in known:
            plain = key.lower().replace("-", "_").removeprefix("durably_")
            near = get_close_matches(plain, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            yield f"{FILE_NAME} has an unknown setting {key!r}; {hint}"


def _converted(field: str, given: _Given) -> Any:
    value = given.value
    if isinstance(value, str) and isinstance(getattr(_DEFAULTS, field), tuple):
        value = tuple(part for part in map(str.strip, value.split(",")) if part)
    try:
        return msgspec.convert(value, _TYPES[field], strict=not given.text)
    except msgspec.ValidationError:
        need = f"need {_need(_TYPES[field])}"
        raise ValueError(need if field in SECRETS else f"{need}, got {value!r}") from None


def _need(kind: Any) -> str:
    """What the annotation says is needed."""
    for part in (kind, *getattr(kind, "__args__", ())):
        for note in getattr(part, "__metadata__", ()):
            return str(note.description)
    raise AssertionError(f"no description: {kind}")
