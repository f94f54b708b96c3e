"""Which jobs a search means: its conditions as values, and what they say of one job."""

from string import ascii_lowercase, ascii_uppercase

import msgspec

from durably.domain.job import STATES_OF, Job, JobRecord, JobStatus, State

SCAN_MOST = 20_000
"""So many rows one search looks at by default: some tens of milliseconds."""
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that a job must meet, all of them; None and () ask nothing."""

    statuses: tuple[JobStatus, ...] = ()
    """Any of these."""
    type: str | None = None
    queue: str | None = None
    tag: str | None = None
    """One of the job's tags, as a whole."""
    text: str | None = None
    """Begins the id, or stands anywhere in type, unique key, error, tags or payload.

    Without regard to the case of ASCII letters. Of tags and payload the JSON text counts: what is
    escaped there is found as it is written and as it is meant.
    """
    since_us: int | None = None
    """Created then or later, microseconds since 1970."""
    until_us: int | None = None
    """Created earlier."""

    @property
    def states(self) -> tuple[State, ...]:
        """What `statuses` mean to a store; all states when there are none."""
        if not self.statuses:
            return tuple(State)
        return tuple(sorted({s for status in self.statuses for s in STATES_OF[status]}))

    @property
    def needles(self) -> tuple[str, str]:
        """What to look for in lower case: `text`, and how JSON writes it."""
        assert self.text is not None
        written = msgspec.json.encode(self.text).decode()[1:-1]
        return self.text.translate(_FOLD), written.translate(_FOLD)

    @property
    def may_match(self) -> bool:
        """Whether a store could hold such a job: none keeps NUL or lone surrogates."""
        texts = (self.type, self.queue, self.tag, self.text)
        return all(text is None or _is_storable(text) for text in texts)

    def covers(self, queue: str, type: str, state: int) -> bool:
        """Whether jobs of this queue, type and state can be among those that match."""
        return (
            (not self.statuses or State(state).status in self.statuses)
            and self.type in (None, type)
            and self.queue in (None, queue)
        )

    def matches(self, record: JobRecord) -> bool:
        """Whether the job is meant: the reference for what stores say in SQL."""
        return (
            self.covers(record.queue, record.type, record.state)
            and (self.since_us is None or record.created_at >= self.since_us)
            and (self.until_us is None or record.created_at < self.until_us)
            and (self.tag is None or self.tag in msgspec.json.decode(record.tags))
            and (self.text is None or self._has_text(record))
        )

    def _has_text(self, record: JobRecord) -> bool:
        plain, written = self.needles
        names = (record.type, record.unique_key, record.error, record.tags, record.payload)
        return (
            record.id.translate(_FOLD).startswith(plain)
            or any(plain in (name or "").translate(_FOLD) for name in names)
            or any(written in text.translate(_FOLD) for text in (record.tags, record.payload))
        )


class Found(msgspec.Struct, frozen=True):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: int | None = None
    """The `after` of the page that follows; None at the end."""
    scanned: int = 0
    """How many jobs of the statuses asked for were looked at."""


class FoundIds(msgspec.Struct, frozen=True):
    """A page of ids, those of the newest jobs first."""

    ids: list[str]
    next: int | None = None
    """As in `Found`."""
    scanned: int = 0


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
