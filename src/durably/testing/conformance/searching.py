"""Searching jobs: newest first, page by page, each call bounded."""

from random import Random
from typing import Any

import pytest

from durably.domain.clock import to_us
from durably.domain.job import Job, JobPriority, JobStatus
from durably.domain.outcome import Failure, Outcome, OutcomeKind
from durably.domain.search import Found, FoundIds, Search
from durably.store import Store
from durably.testing.clock import VirtualClock
from durably.testing.conformance.control import each_unknown_id
from durably.testing.conformance.support import (
    FINAL,
    OUTCOMES,
    add,
    claim_of,
    completed,
    draft,
    everything,
    info,
    look,
    report,
    reserved,
    run_to,
    running,
    take_one,
)

_EACH_STATUSES: tuple[tuple[JobStatus, ...], ...] = (
    (),
    *((status,) for status in JobStatus),
    (JobStatus.PENDING, JobStatus.PROCESSING),
    (JobStatus.FAILED, JobStatus.CANCELLED),
    (JobStatus.PROCESSING, JobStatus.COMPLETED),
)
each_statuses = pytest.mark.parametrize(
    "statuses", _EACH_STATUSES, ids=lambda statuses: "+".join(statuses) or "all"
)


async def ids_of(store: Store, **where: Any) -> list[str]:
    """The ids of all that match, from the newest."""
    return (await store.match_ids(Search(**where), limit=1_000)).ids


class Searching:
    """What `search` and `match_ids` find, and how far they look."""

    async def test_the_newest_come_first(self, store: Store) -> None:
        """Whatever their priority and status, by the order in which they were added."""
        jobs = await self._mixed(store)

        found = await store.search(Search(), limit=500)

        assert found == Found(jobs, None, len(jobs))

    async def test_conditions_are_combined(self, store: Store) -> None:
        """Every combination of statuses, type and queue gives exactly what matches all of it."""
        jobs = await self._mixed(store)

        for statuses in _EACH_STATUSES:
            for kind in (None, "a", "b", "unknown"):
                for queue in (None, "p", "q", "unknown"):
                    expected = [
                        job
                        for job in jobs
                        if (not statuses or job.status in statuses)
                        and kind in (None, job.type)
                        and queue in (None, job.queue)
                    ]
                    where = Search(statuses=statuses, type=kind, queue=queue)
                    found = await store.search(where, limit=500)
                    assert found.jobs == expected, where
                    assert found.next is None

    @each_statuses
    @pytest.mark.parametrize("kind", [None, "a"])
    async def test_pages_of_a_search_make_up_the_whole(
        self, store: Store, statuses: tuple[JobStatus, ...], kind: str | None
    ) -> None:
        """Each begins below the one before; ids come as the jobs do."""
        jobs = await self._mixed(store)
        where = Search(statuses=statuses, type=kind)
        paged: list[Job] = []
        after = None
        while True:
            page = await store.search(where, limit=4, after=after)
            ids = await store.match_ids(where, limit=4, after=after)
            assert ids == FoundIds([job.id for job in page.jobs], page.next, page.scanned)
            assert len(page.jobs) <= 4
            paged += page.jobs
            after = page.next
            if after is None:
                break

        assert paged == [
            job
            for job in jobs
            if (not statuses or job.status in statuses) and kind in (None, job.type)
        ]

    async def test_a_full_last_page_is_the_last(self, store: Store) -> None:
        """No page follows on the last match, and none is promised."""
        jobs = [await add(store) for _ in range(4)]
        first = await store.search(Search(), limit=2)
        assert first.next is not None
        second = await store.search(Search(), limit=2, after=first.next)

        assert [job.id for job in (*first.jobs, *second.jobs)] == [j.id for j in reversed(jobs)]
        assert second.next is None

    async def test_pages_of_a_search_are_stable(self, store: Store) -> None:
        """Jobs added or changed between two pages are neither seen twice nor push others out."""
        jobs = [await add(store) for _ in range(6)]
        first = await store.match_ids(Search(), limit=3)
        worker = await store.register(info())
        await report(store, worker, completed(await take_one(store, worker, start=1)))
        await store.cancel(jobs[-1].id)
        await store.retry(jobs[-1].id)
        await add(store)
        second = await store.match_ids(Search(), limit=3, after=first.next)

        assert [*first.ids, *second.ids] == [job.id for job in reversed(jobs)]

    async def test_below_the_first_is_nothing(self, store: Store) -> None:
        """Whatever place is given: no job has 0, all have less than the largest."""
        job = await add(store)

        assert (await store.match_ids(Search(), limit=5, after=0)).ids == []
        assert (await store.match_ids(Search(), limit=5, after=2**63 - 1)).ids == [job.id]

    async def test_jobs_of_several_days_are_in_one_order(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """By when they were added, not by when they ended; live ones among them."""
        worker = await store.register(info())
        jobs = [await add(store, kind) for kind in "abcd"]
        for kind in "dbc":
            await report(store, worker, completed(await take_one(store, worker, kind)))
            await clock.advance(86_400)

        assert await ids_of(store) == [job.id for job in reversed(jobs)]
        done = await ids_of(store, statuses=(JobStatus.COMPLETED,))
        assert done == [job.id for job in reversed(jobs[1:])]

    # How far it looks

    @pytest.mark.parametrize("statuses", [(), (JobStatus.PENDING,)])
    async def test_a_search_is_bounded(self, store: Store, statuses: tuple[JobStatus, ...]) -> None:
        """It looks at so many jobs, says how many, and where to go on: with nothing found yet."""
        rare = await add(store, "a")
        await store.enqueue([draft("b") for _ in range(10)])
        where = Search(statuses=statuses, type="a")
        pages = [await store.search(where, limit=5, scan=4)]
        while pages[-1].next is not None:
            pages.append(await store.search(where, limit=5, scan=4, after=pages[-1].next))

        assert [[job.id for job in page.jobs] for page in pages] == [[], [], [rare.id]]
        assert [page.scanned for page in pages] == [4, 4, 3]

    async def test_it_looks_no_further_than_the_page(self, store: Store) -> None:
        """A full page counts what was looked at down to its last job."""
        await store.enqueue([draft("ab"[i % 2]) for i in range(20)])
        page = await store.search(Search(type="b"), limit=3)

        assert (len(page.jobs), page.scanned) == (3, 5)

    async def test_only_jobs_of_the_statuses_are_looked_at(self, store: Store) -> None:
        """One failed job below many others is found at once."""
        worker = await store.register(info())
        job = await run_to(store, worker, JobStatus.FAILED)
        await store.enqueue([draft() for _ in range(50)])
        for _ in range(10):
            await report(store, worker, completed(await take_one(store, worker, start=1)))
        await take_one(store, worker, start=1)

        found = await store.search(Search(statuses=(JobStatus.FAILED,)), limit=5, scan=5)
        assert found == Found([job], None, 1)
        running = await store.search(Search(statuses=(JobStatus.PROCESSING,)), limit=5, scan=5)
        assert (len(running.jobs), running.next, running.scanned) == (1, None, 1)

    async def test_what_is_not_there_is_not_looked_for(self, store: Store) -> None:
        """Where the figures know of no job of the statuses, type and queue, none is looked at."""
        worker = await store.register(info())
        await run_to(store, worker, JobStatus.COMPLETED)
        for where in (
            Search(type="unknown"),
            Search(queue="unknown"),
            Search(statuses=(JobStatus.PENDING,)),
            Search(statuses=(JobStatus.FAILED, JobStatus.PROCESSING), type="work"),
        ):
            assert await store.search(where, limit=5) == Found([], None, 0)
            assert await store.match_ids(where, limit=5) == FoundIds([], None, 0)

    async def test_a_reserved_job_is_found_as_pending(self, store: Store) -> None:
        """As it is shown."""
        _, ahead = await reserved(store, "a")
        _, begun = await running(store, "b")

        assert await ids_of(store, statuses=(JobStatus.PENDING,)) == [ahead.job_id]
        assert await ids_of(store, statuses=(JobStatus.PROCESSING,)) == [begun.job_id]

    # Tags, time, text

    async def test_a_tag_is_matched_as_a_whole(self, store: Store) -> None:
        """No part of one, and none that JSON's own marks make up between two."""
        await add(store, tags=["a,b", "c"])
        both = await add(store, tags=["a", "b"])
        odd = await add(store, tags=['q"t', "back\\slash", "é", "%", "A"])
        await add(store)

        assert await ids_of(store, tag="a") == [both.id]
        for tag in ('q"t', "back\\slash", "é", "%", "A"):
            assert await ids_of(store, tag=tag) == [odd.id], tag
        for tag in (",", '","', "", "a,", "_", "E", "é\\", '["a"'):
            assert await ids_of(store, tag=tag) == [], tag

    async def test_jobs_of_a_time_are_found(self, store: Store, clock: VirtualClock) -> None:
        """`since` is included, `until` is not; to the microsecond."""
        jobs = []
        for _ in range(3):
            jobs.append(await add(store))
            await clock.advance(1)
        first, second, third = (to_us(job.created_at) for job in jobs)

        for since, until, expected in (
            (second, None, [2, 1]),
            (second + 1, None, [2]),
            (None, second, [0]),
            (first, third, [1, 0]),
            (third + 1, None, []),
        ):
            found = await ids_of(store, since_us=since, until_us=until)
            assert found == [jobs[i].id for i in expected]

    async def test_text_is_found_wherever_it_stands(self, store: Store) -> None:
        """In type, unique key, tags, payload and error, and at the start of the id."""
        job = await add(
            store, "send_mail", {"to": "Ann"}, unique_key="welcome-7", tags=["urgent", "eu"]
        )
        await add(store, "other")
        worker = await store.register(info())
        lease = await take_one(store, worker, "send_mail")
        failure = Failure(kind="error", message="Connection refused", traceback="File line")
        outcome = Outcome(lease, OutcomeKind.FAILED, failure=failure)
        await report(store, worker, outcome)

        for text in ("SEND", "d_m", "come-7", "URGENT", "ann", '{"TO":', "refused", job.id):
            assert await ids_of(store, text=text) == [job.id], text
        for text in (job.id[1:], "File line", "default", "failed", "é"):
            assert await ids_of(store, text=text) == [], text

    @pytest.mark.parametrize("payload", ["100%", "a_b", "a*b", "[x]", "it's", "a;--", "?1", "$1"])
    async def test_text_means_itself(self, store: Store, payload: str) -> None:
        """Nothing in it is a pattern or ends a statement."""
        job = await add(store, "a", payload)
        await add(store, "a", "100 aXb x its 1")

        assert await ids_of(store, text=payload) == [job.id]
        assert await ids_of(store, text="%") == ([job.id] if "%" in payload else [])

    async def test_text_in_json_is_found_as_meant(self, store: Store) -> None:
        """Quotes, backslashes and line breaks of a payload, as they are and as JSON has them."""
        job = await add(store, "a", {"path": 'C:\\temp "x"\n', "naïve": "Ünïcode 日本"})

        for text in ('c:\\temp "X"\n', 'C:\\\\temp \\"x', "naïve", "日本", "Ünï"):
            assert await ids_of(store, text=text) == [job.id], text
        assert await ids_of(store, text="ünï") == []

    @each_unknown_id
    async def test_any_text_may_be_searched_for(self, store: Store, unknown: str) -> None:
        """What no store can hold is found nowhere, without an error."""
        job = await add(store, "a", "payload")
        expected = [job.id] if unknown == "" else []

        assert await ids_of(store, text=unknown) == expected
        for name in ("type", "queue", "tag"):
            assert await ids_of(store, **{name: unknown}) == []

    async def _mixed(self, store: Store) -> list[Job]:
        """Jobs of every status, priority, two types and two queues, the newest first."""
        random = Random(7)  # noqa: S311  # the same jobs each time
        worker = await store.register(info())
        for status in FINAL:
            await run_to(store, worker, status)
        await store.enqueue(
            [
                draft(
                    random.choice("ab"),
                    queue=random.choice("pq"),
                    priority=random.choice(list(JobPriority)),
                    delay=random.choice((0.0, 0.0, 60.0)),
                )
                for _ in range(40)
            ]
        )
        claim = claim_of("a", "b", queues=("p", "q"), start=18, reserve=3)
        done = await store.exchange(worker, claim=claim)
        ended = random.sample(done.claimed, 15)
        await report(store, worker, *(random.choice(OUTCOMES)(c.lease, delay_s=9) for c in ended))
        jobs = [await look(store, job) for job in await everything(store)]
        assert {job.status for job in jobs} == set(JobStatus)
        return sorted(jobs, key=lambda job: job.id, reverse=True)
