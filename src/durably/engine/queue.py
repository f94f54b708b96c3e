"""JobQueueService: what users hold. It checks, encodes, and asks the store or the worker."""

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from random import Random
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

import msgspec
import uuid_utils

from durably.domain.bulk import ACT_MOST, Acted, BulkAction
from durably.domain.clock import Clock, SystemClock, to_datetime
from durably.domain.errors import (
    JobNotFoundError,
    StoreClosedError,
    StoreError,
    VersionConflictError,
)
from durably.domain.job import Job, JobPriority, JobStatus, NewJob, State
from durably.domain.outcome import NO_CHANGES, Changes, Event, Put, Record, check_seconds
from durably.domain.payload import check_text, encode
from durably.domain.retry import RetryPolicy
from durably.domain.search import Found, FoundIds
from durably.engine.context import JobContext, SyncJobContext, inside_complete
from durably.engine.drafts import QUEUE_LONGEST, TYPE_LONGEST, Changeset, Drafter, check_count
from durably.engine.explain import explain
from durably.engine.handlers import Handler, Handlers
from durably.engine.health import WriteProbe, worker_faults
from durably.engine.role import Role
from durably.engine.searching import JobFilter, search_of, status_of
from durably.engine.stats import QueueStats, queue_stats
from durably.engine.tasks import Task, TaskDecorator
from durably.engine.worker import Worker
from durably.store import Notice, NoticeKind, Oldest, Store, StoreStats, WorkerState
from durably.stores import open_store

PRUNE_INTERVAL_S = 60.0
_P = ParamSpec("_P")
_R = TypeVar("_R")
_WAIT_POLL_S = (0.05, 1.0)
"""Between looks for a job that another process finishes: at first, and at most."""
_LIST_MOST = 10_000
_WAKE_MOST = 1_000
"""In one transaction."""
_LARGEST_ID = 2**63 - 1
_UNCHANGED: Any = object()


def _new_id() -> str:
    return str(uuid_utils.uuid7())


class _Default(int):
    """A default that can be told from the same number when it is given."""


_ONE_AT_A_TIME = _Default(1)


class JobQueueService:
    """A durable job queue: adds jobs, and runs them once told to.

    Used as ``async with JobQueueService("sqlite:///jobs.db") as queue``: entering opens the store
    but does not start processing, leaving is `shutdown` and close. Handlers may be registered
    before. All durations are seconds.

    Args:
        store: ``memory://``, ``sqlite:///path``, or a store object (to share one).
        concurrency: jobs at a time in this service; 1, the default, is strictly one after the
            other (under ``durably worker`` the default is its setting).
        processing_interval: longest time between looks for work; wake-ups come at once.
        retry: what a failed attempt means, unless the handler says otherwise.
        retention: final jobs are removed when they are older.
        lease: a worker that is silent for longer loses its jobs to others.
        queues: the queues that are processed here.
        aging: seconds of waiting that are worth one level of priority; None: strict priority.
        clock: where time comes from.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it and its value.
    """

    def __init__(
        self,
        store: str | Store = "sqlite:///durably.db",
        *,
        concurrency: int = _ONE_AT_A_TIME,
        processing_interval: float = 1.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        retention: float = 86_400.0,
        lease: float = 30.0,
        queues: Sequence[str] = ("default",),
        aging: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy, got {retry!r}")
        if clock is not None and not hasattr(clock, "monotonic"):
            raise TypeError(f"clock must be a Clock, got {clock!r}")
        self._clock = clock or SystemClock()
        self._store = open_store(store, clock=self._clock) if isinstance(store, str) else store
        if not hasattr(self._store, "exchange"):
            raise TypeError(f"store must be a URL or a store object, got {store!r}")
        self._concurrency = check_count("concurrency", concurrency, most=100_000)
        self._interval = _positive("processing_interval", processing_interval)
        self._retention = check_seconds("retention", retention)
        self._lease = _positive("lease", lease)
        self._queues = _queues(queues)
        self._aging = None if aging is None else _positive("aging", aging)
        self._random = Random()  # noqa: S311  # spreads retries
        self._handlers = Handlers(retry)
        self._drafter = Drafter(_new_id, self._handlers.max_attempts, self._handlers.check_payload)
        self._worker: Worker | None = None
        self._pruner: Role | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._write_probe = WriteProbe(self._probe_write, self._clock)
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._changing = asyncio.Lock()
        self._left_behind = False
        self._alone = threading.Lock()

    @property
    def concurrency(self) -> int:
        """Jobs at a time in this service."""
        return int(self._concurrency)

    @property
    def has_own_concurrency(self) -> bool:
        """Whether the program that made this service said how many."""
        return self._concurrency is not _ONE_AT_A_TIME

    @property
    def store_url(self) -> str:
        """Where the jobs are."""
        return self._store.url

    @property
    def retention(self) -> float:
        """Final jobs are removed when they are older, seconds."""
        return self._retention

    @property
    def handler_types(self) -> tuple[str, ...]:
        """The job types that can run here."""
        return tuple(handler.type for handler in self._handlers.all())

    def reconfigure(
        self,
        *,
        store: str | None = None,
        concurrency: int | None = None,
        lease: float | None = None,
        retention: float | None = None,
    ) -> None:
        """Replace arguments of the constructor before the service is opened; None keeps one.

        Raises:
            RuntimeError: the service is open.
            TypeError, ValueError: as from the constructor.
        """
        if self._loop is not None:
            raise RuntimeError("this service is open: reconfigure it before")
        if store is not None:
            self._store = open_store(store, clock=self._clock)
        if concurrency is not None:
            self._concurrency = check_count("concurrency", concurrency, most=100_000)
        if lease is not None:
            self._lease = _positive("lease", lease)
        if retention is not None:
            self._retention = check_seconds("retention", retention)

    async def __aenter__(self) -> Self:
        """Open the store."""
        if self._loop is not None:
            raise RuntimeError("this service is already open")
        await self._store.open()
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._store.subscribe(self._notice)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """`shutdown`, then close the store."""
        try:
            # Who has been waited for once is not waited for again.
            await self.shutdown(0.0 if self._left_behind else 30.0)
            await self._end_worker()
        finally:
            self._loop = None
            self._unsubscribe()
            await self._store.close()

    # Adding jobs

    async def add_job(
        self,
        type: str,
        payload: Any = None,
        *,
        priority: JobPriority = JobPriority.NORMAL,
        max_attempts: int | None = None,
        delay: float | None = None,
        run_at: datetime | None = None,
        queue: str = "default",
        unique_key: str | None = None,
        tags: Collection[str] = (),
        connection: object = None,
    ) -> Job:
        """Add a job; durable when it returns.

        Args:
            type: names the handler; it need not be known here.
            payload: anything JSON-able, at most 1 MiB.
            priority: higher runs first.
            max_attempts: in all; None: the retry policy's.
            delay: seconds until it may run.
            run_at: when it may run (aware); instead of *delay*.
            queue: which workers look.
            unique_key: while a job of the type with this key is pending or processing, it is
                returned unchanged instead of adding another.
            tags: for finding it again.
            connection: add it inside the caller's own SQL transaction; durable when that commits.

        Raises:
            TypeError, ValueError: an argument is wrong.
            PayloadError: the payload is not JSON-able, too large, or not of the type's shape.
            StoreError: the store could not take it; nothing was added.
        """
        job = NewJob(
            type=type,
            payload=payload,
            priority=priority,
            max_attempts=max_attempts,
            delay=delay,
            run_at=run_at,
            queue=queue,
            unique_key=unique_key,
            tags=tags,
        )
        draft = self._drafter.draft(job)
        if connection is not None:
            return (await self._store.enqueue_in(connection, [draft]))[0]
        return (await self._store.enqueue([draft]))[0]

    async def add_jobs(self, jobs: Sequence[NewJob]) -> list[Job]:
        """Add several in one round trip, all or nothing. Errors as in `add_job`."""
        drafts = [self._drafter.draft(_check_new(job)) for job in jobs]
        return await self._store.enqueue(drafts) if drafts else []

    def add_job_sync(self, type: str, payload: Any = None, **options: Any) -> Job:
        """`add_job` for code that is not async.

        From another thread it asks the service's event loop; where the service is not open, it
        opens the store for this one job.

        Raises:
            RuntimeError: called on an event loop's own thread, which it would block.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("this thread runs an event loop: use `await … .enqueue(…)` instead")
        if self._loop is not None:
            return asyncio.run_coroutine_threadsafe(
                self.add_job(type, payload, **options), self._loop
            ).result()
        if not self._store.capabilities.durable:
            raise StoreClosedError(f"{self._store.url} keeps nothing while no service is open")
        with self._alone:
            return asyncio.run(self._add_alone(type, payload, options))

    async def _add_alone(self, type: str, payload: Any, options: dict[str, Any]) -> Job:
        async with self:
            return await self.add_job(type, payload, **options)

    # Handlers

    def register_handler(
        self,
        type: str,
        handler: Callable[[Any], Any],
        *,
        payload_type: Any = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        """Run jobs of *type* with ``handler(job: JobContext)``; replaces an earlier one.

        Args:
            type: the job type.
            handler: async, or a plain function, which runs in a thread.
            payload_type: a msgspec struct, dataclass or anything msgspec decodes: payloads are
                checked at `add_job` and converted at run.
            timeout: seconds for each attempt.
            retry: instead of the service's policy.
            max_concurrency: so many at a time in this service.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        self._handlers.register(
            Handler(
                type,
                handler,
                payload_type=payload_type,
                timeout=timeout,
                retry=retry,
                max_concurrency=max_concurrency,
            )
        )

    @overload
    def task(self, name: Callable[Concatenate[JobContext, _P], _R], /) -> Task[_P, _R]: ...
    @overload
    def task(self, name: Callable[Concatenate[SyncJobContext, _P], _R], /) -> Task[_P, _R]: ...
    @overload
    def task(self, name: Callable[_P, _R], /) -> Task[_P, _R]: ...
    @overload
    def task(
        self,
        name: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int | None = None,
    ) -> TaskDecorator: ...
    def task(self, name: Any = None, **options: Any) -> Any:
        """Make a function a job type: its parameters are the payload.

        A parameter annotated `JobContext` (`SyncJobContext` in a plain function) gets the context;
        type checkers know it to be given where it comes first.
        Used bare or with a name and `register_handler`'s options; the name is the function's own
        unless given.

        Raises:
            TypeError: a parameter cannot be a payload field.
            ValueError: another function already has this name.
        """

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            made: Task[Any, Any] = Task(self, function, None if callable(name) else name)
            self._handlers.check_free(made.name, function)
            handler = Handler(made.name, made.handler(), payload_type=made.payload_type, **options)
            self._handlers.register(handler, function)
            return made

        return decorate(name) if callable(name) else decorate

    # Looking

    async def get_job(self, id: str) -> Job | None:
        """The job with this id; None for any text that is none's."""
        if not _may_be_id(id):
            return None
        await self._catch_up()
        return await self._store.get(id)

    async def get_jobs(
        self,
        *,
        status: JobStatus | None = None,
        type: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """Jobs that match every filter given, highest priority first, then oldest.

        Args:
            status: `JobStatus` or its value.
            type: the job type.
            queue: the queue.
            limit: at most so many, 1 to 10,000.
            after: only what comes after the job with this id: the last of the page before.

        Raises:
            JobNotFoundError: *after* is no job.
        """
        await self._catch_up()
        return await self._store.find(
            status=None if status is None else status_of(status),
            type=None if type is None else check_text("type", type, longest=TYPE_LONGEST),
            queue=None if queue is None else check_text("queue", queue, longest=QUEUE_LONGEST),
            limit=check_count("limit", limit, most=_LIST_MOST),
            after=None if after is None else _check_id(after),
        )

    async def search_jobs(
        self, *, limit: int = 100, after: int | None = None, **where: Unpack[JobFilter]
    ) -> Found:
        """Jobs that match every condition, newest first.

        One call looks at 20,000 jobs of the statuses at most: a page may be short, or empty, and
        yet have a next one.

        Args:
            limit: at most so many, 1 to 10,000.
            after: the `next` of the page before.
            **where: the conditions, see `JobFilter`.
        """
        check_count("limit", limit, most=_LIST_MOST)
        search, place = search_of(**where), _place(after)
        await self._catch_up()
        return await self._store.search(search, limit=limit, after=place)

    async def match_ids(
        self, *, limit: int = 1_000, after: int | None = None, **where: Unpack[JobFilter]
    ) -> FoundIds:
        """The ids of the jobs that `search_jobs` would give: to count them, and to act on them."""
        check_count("limit", limit, most=_LIST_MOST)
        search, place = search_of(**where), _place(after)
        await self._catch_up()
        return await self._store.match_ids(search, limit=limit, after=place)

    async def get_steps(self, id: str) -> dict[str, Any]:
        """The durable steps of a job that have been done: name to result; none for unknown ids."""
        if not _may_be_id(id):
            return {}
        stored = await self._store.steps(id)
        return {name: msgspec.json.decode(result) for name, result in stored.items()}

    async def get_children(self, id: str, limit: int = 100) -> list[Job]:
        """The jobs that attempts of this one have added, oldest first; none for an unknown id.

        Args:
            id: of the job, which itself may have been removed.
            limit: at most so many, 1 to 10,000.

        Raises:
            TypeError, ValueError: an argument is wrong; the message names it and its value.
        """
        check_count("limit", limit, most=_LIST_MOST)
        if not _may_be_id(id):
            return []
        await self._catch_up()
        return await self._store.children(id, limit=limit)

    async def get_stats(self) -> QueueStats:
        """Counts, rates and percentiles, from maintained figures."""
        await self._catch_up()
        figures = await self._store.stats()
        types = [handler.type for handler in self._handlers.all()]
        return queue_stats(figures, types, await self._store.workers())

    async def oldest_ready(self) -> tuple[Oldest, ...]:
        """Since when jobs have been ready: the oldest of each queue and type that has any.

        Sorted by queue, then type; times are microseconds since 1970 (UTC). Jobs of paused queues
        and of types without a handler are among them; what is leased or not yet due is not.
        """
        await self._catch_up()
        return await self._store.oldest_ready()

    async def get_figures(self) -> StoreStats:
        """What `get_stats` is made of, as the store maintains it."""
        await self._catch_up()
        return await self._store.stats()

    async def count_live(self, type: str) -> int:
        """How many jobs of a type are not final, from maintained figures."""
        counts = (await self._store.stats()).counts
        return sum(c.count for c in counts if c.type == type and not State(c.state).status.is_final)

    @property
    def worker_id(self) -> int | None:
        """The number of this service among `workers`; None unless it processes jobs."""
        return None if self._worker is None else self._worker.id

    async def workers(self) -> list[WorkerState]:
        """The workers registered with the store, in every process."""
        return await self._store.workers()

    async def explain(self, id: str) -> str:
        """Why the job is not running, in words. JobNotFoundError."""
        job = await self._known(id)
        return explain(
            job,
            now=to_datetime(self._clock.now_us()),
            paused=await self._store.paused(),
            workers=await self._store.workers(),
        )

    async def wait(self, id: str, timeout: float | None = None) -> Job:
        """The job once it is final.

        Raises:
            JobNotFoundError: no job has this id.
            TimeoutError: it is not final after *timeout* seconds.
        """
        deadline = math.inf if timeout is None else self._now() + check_seconds("timeout", timeout)
        event = asyncio.Event()
        self._waiting.setdefault(id, []).append(event)
        poll, longest = _WAIT_POLL_S
        try:
            while not (job := await self._known(id)).status.is_final:
                left = deadline - self._now()
                if left <= 0:
                    raise TimeoutError(f"job {id} is still {job.status} after {timeout:g} s")
                await self._clock.wait(event, min(poll, left))
                event.clear()
                poll = min(poll * 2, longest)
        finally:
            self._waiting[id].remove(event)
            if not self._waiting[id]:
                del self._waiting[id]
        return job

    # Steering

    async def cancel_job(self, id: str, *, changes: Changeset | None = None) -> Job:
        """Cancel a pending job at once; interrupt a running one.

        A running job stays processing, `cancelled` true, until its handler has ended; one that
        returns normally all the same is completed. *changes* commit with it, or neither happens;
        so they do with the calls below.

        Raises:
            JobNotFoundError, JobStateError: unknown, or already final.
        """
        return await self._store.cancel(_check_id(id), _frozen(changes))

    async def retry_job(
        self, id: str, *, payload: Any = _UNCHANGED, changes: Changeset | None = None
    ) -> Job:
        """Run a final job again, with as many attempts as it was given at first.

        Its history stays and attempts are counted on. An edited *payload* clears its steps.

        Raises:
            JobNotFoundError, JobStateError: unknown, or not final.
            UniqueKeyTakenError: another live job holds its unique key.
            PayloadError: as in `add_job`.
        """
        if payload is _UNCHANGED:
            return await self._store.retry(_check_id(id), None, _frozen(changes))
        job = await self._known(id)
        text = encode(payload)
        self._handlers.check_payload(job.type, text)
        return await self._store.retry(id, text, _frozen(changes))

    async def delete_job(self, id: str, *, changes: Changeset | None = None) -> None:
        """Remove a final job, its history and its steps.

        Raises:
            JobNotFoundError, JobStateError: unknown, or not final.
        """
        await self._store.delete(_check_id(id), _frozen(changes))

    async def act_on_jobs(
        self, action: BulkAction, ids: Sequence[str], *, changes: Changeset | None = None
    ) -> Acted:
        """Cancel, retry or delete many jobs in one transaction, in the order given.

        What `cancel_job`, `retry_job` or `delete_job` would refuse is counted instead of raised;
        *changes* commit all the same.

        Args:
            action: `BulkAction` or its value.
            ids: at most 1,000; one named twice counts once.
            changes: commit with it.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        asked = BulkAction(action)
        return await self._store.act(asked, _check_ids(ids), _frozen(changes))

    async def wake(self, type: str, unique_keys: Sequence[str]) -> int:
        """Have jobs run now that were added or snoozed for later: what they wait for has happened.

        A hint: it may come too early for a job that is running just then, or twice. Who waits for it
        looks by itself now and then.

        Args:
            type: the job type.
            unique_keys: of the jobs; whoever runs, is ready, or waits after a failure is left alone.

        Returns:
            How many were woken.

        Raises:
            TypeError, ValueError: an argument is wrong; a text that can be no key is merely unknown.
        """
        check_text("type", type, longest=TYPE_LONGEST)
        keys = _check_keys(unique_keys)
        # A portion at a time, so that other writes get their turn in between.
        return sum(
            [
                await self._store.wake(type, keys[start : start + _WAKE_MOST])
                for start in range(0, len(keys), _WAKE_MOST)
            ]
        )

    async def pause(self, queue: str, *, changes: Changeset | None = None) -> None:
        """Let no worker claim from *queue* until `resume`; kept in the store."""
        name = check_text("queue", queue, longest=QUEUE_LONGEST)
        await self._store.pause(name, paused=True, changes=_frozen(changes))

    async def resume(self, queue: str, *, changes: Changeset | None = None) -> None:
        """Undo `pause`."""
        name = check_text("queue", queue, longest=QUEUE_LONGEST)
        await self._store.pause(name, paused=False, changes=_frozen(changes))

    async def paused_queues(self) -> frozenset[str]:
        """The queues that `pause` has named."""
        return await self._store.paused()

    async def cleanup(self, older_than: float = 86_400.0) -> int:
        """Remove the final jobs whose `completed_at` is more than *older_than* seconds ago."""
        return await self._store.cleanup(check_seconds("older_than", older_than))

    # Records and events

    def changeset(self) -> Changeset:
        """Gathers jobs, records and events for `commit`."""
        return Changeset(self._drafter)

    async def commit(self, changes: Changeset) -> list[Job]:
        """Commit all of *changes* or nothing (VersionConflictError); its jobs as they are stored."""
        frozen = changes.freeze()
        others = msgspec.structs.replace(frozen, jobs=())
        return await self._store.enqueue(frozen.jobs, others)

    async def get_record(self, kind: str, id: str) -> Record | None:
        """A record by kind and id."""
        return await self._store.record(kind, id)

    async def get_records(
        self, kind: str, *, limit: int = 100, after: str | None = None, newest_first: bool = False
    ) -> list[Record]:
        """Records of a kind in the order of their ids, beyond the id *after*."""
        check_count("limit", limit, most=_LIST_MOST)
        return await self._store.records(kind, limit=limit, after=after, newest_first=newest_first)

    async def keep_once(self, kind: str, make: Callable[[], str]) -> tuple[str, bool]:
        """The text of the store's only record of a kind; whoever comes first has *make* make it.

        Returns:
            The text, and whether this call made it.
        """
        while (record := await self.get_record(kind, kind)) is None:
            changes, made = self.changeset(), make()
            changes.put(kind, kind, made, expect=0)
            try:
                await self.commit(changes)
            except VersionConflictError:  # another was quicker
                continue
            return made, True
        return str(record.value), False

    async def count_records(self, kind: str) -> int:
        """How many records of a kind there are."""
        return await self._store.count_records(kind)

    async def get_events(
        self,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> list[Event]:
        """Events beyond the id *after*, oldest first; or newest first, 0 being beyond the newest."""
        check_count("limit", limit, most=_LIST_MOST)
        after = min(after, _LARGEST_ID)
        return await self._store.events(
            after=after, subject=subject, limit=limit, newest_first=newest_first
        )

    async def prune_events(self, subject: str, older_than: float) -> int:
        """Remove the events about *subject* that are older than so many seconds; how many."""
        check_seconds("older_than", older_than)
        removed = 0
        while batch := await self._store.prune_events(subject, older_than):
            removed += batch
        return removed

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Call *listener* on the event loop after commits; gives the function that ends it.

        A hint: notices of other processes may be missing.
        """
        return self._store.subscribe(listener)

    # Processing

    async def health(self, *, workers: bool = True) -> tuple[str, ...]:
        """Why this service is not of use now, one sentence each; nothing when it is.

        Args:
            workers: whether jobs are to run here; else only the store is judged.
        """
        judged = self._worker_health() if workers else ()
        return (*judged, *await self._write_probe.faults())

    def _worker_health(self) -> tuple[str, ...]:
        if self._worker is None or not self._worker.claiming:
            return ("this process takes no jobs",)
        return worker_faults(self._worker.pulse(), types=len(self._handlers.all()))

    @property
    def is_processing(self) -> bool:
        """Whether this service takes new jobs."""
        return self._worker is not None and self._worker.claiming

    async def start_processing(self) -> None:
        """Take jobs. Returns when the jobs of dead processes of this machine are rescued."""
        async with self._changing:
            if self._worker is None:
                if self._loop is None:
                    raise StoreClosedError("the service is not open: use `async with`")
                self._worker = await self._start_worker()
            self._left_behind = False
            self._worker.resume()

    async def stop_processing(self) -> None:
        """Take no new jobs; what runs goes on. Final until `start_processing`."""
        async with self._changing:
            if self._worker is not None:
                await self._worker.pause()

    async def shutdown(self, timeout: float = 30.0) -> int:
        """Take no new jobs, let running ones finish, return the rest; how many were still running.

        After *timeout* seconds async handlers are cancelled and their jobs returned unspent. A
        thread cannot be stopped: it keeps its job, and its slot, until it ends or the service is
        closed; then the job is returned and the thread can record nothing any more. The store
        stays open.
        """
        check_seconds("timeout", timeout)
        async with self._changing:
            left = 0
            if self._worker is not None:
                await self._worker.pause()
                left = await self._worker.drain(timeout)
                self._left_behind = self._worker.running_threads > 0
                if not self._left_behind:
                    await self._end_worker()
            await self._prune_quietly()
            return left

    async def _end_worker(self) -> None:
        if self._worker is not None:
            if self._pruner is not None:
                await self._pruner.stop()
            self._handlers.changed = lambda: None
            ending = asyncio.get_running_loop().create_task(self._worker.end())
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                # Half ended it could neither be started again nor be ended.
                await asyncio.wait([ending])
                raise
            finally:
                self._worker = None

    async def _start_worker(self) -> Worker:
        worker = Worker(
            self._store,
            self._clock,
            self._handlers,
            self._drafter,
            concurrency=self.concurrency,
            interval=self._interval,
            lease=self._lease,
            queues=self._queues,
            aging=self._aging,
            random=self._random,
        )
        await worker.start()
        self._handlers.changed = worker.handlers_changed
        self._pruner = Role(
            "pruner",
            min(PRUNE_INTERVAL_S, max(0.1, self._retention / 4)),
            self._prune,
            self._clock,
        )
        return worker

    async def _prune(self) -> None:
        await self._store.cleanup(self._retention, slack_s=self._retention / 4)

    async def _prune_quietly(self) -> None:
        try:
            await self._prune()
        except StoreError:
            return  # it is no reason to fail a shutdown; the next start cleans up

    # Inside

    def _notice(self, notice: Notice) -> None:
        if self._worker is not None:
            self._worker.notice(notice)
        if notice.kind is NoticeKind.FINISHED and self._waiting:
            for job_id in notice.ids:
                for event in self._waiting.get(job_id, ()):
                    event.set()

    async def _probe_write(self) -> None:
        probe = Put(kind="health", id="write", value="null")
        await self._store.write(Changes(records=(probe,)))

    async def _catch_up(self) -> None:
        """What this service has started must be visible to whoever asks it."""
        if self._worker is not None and not inside_complete.get():
            await self._worker.record_starts()

    async def _known(self, id: str) -> Job:
        job = await self.get_job(id)
        if job is None:
            raise JobNotFoundError(id)
        return job

    def _now(self) -> float:
        return self._clock.monotonic()


def _positive(name: str, value: object) -> float:
    seconds = check_seconds(name, value)
    if seconds < 0.001:
        raise ValueError(f"{name} must be at least 0.001 seconds, got {value}")
    return seconds


def _frozen(changes: Changeset | None) -> Changes:
    return NO_CHANGES if changes is None else changes.freeze()


def _queues(queues: Sequence[str]) -> tuple[str, ...]:
    if isinstance(queues, str) or not queues:
        raise ValueError(
            f"queues must name at least one queue, for example ('default',), got {queues!r}"
        )
    return tuple(dict.fromkeys(check_text("queue", q, longest=QUEUE_LONGEST) for q in queues))


def _may_be_id(value: object) -> bool:
    """Whether a store could know a job by this text; TypeError for what is none."""
    if not isinstance(value, str):
        raise TypeError(f"an id must be a str, got {value!r}")
    return value.isascii() and "\0" not in value


def _check_id(value: str) -> str:
    if not _may_be_id(value):
        raise JobNotFoundError(value)
    return value


def _check_ids(values: Sequence[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"ids must be a list of str, got {values!r}")
    ids = list(values)
    check_count("the number of ids", len(ids), least=0, most=ACT_MOST)
    for value in ids:
        _may_be_id(value)
    return ids


def _check_keys(values: Sequence[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"unique_keys must be a list of str, got {values!r}")
    keys = list(values)
    for value in keys:
        if not isinstance(value, str):
            raise TypeError(f"a unique key must be a str, got {value!r}")
    return keys


def _place(after: int | None) -> int | None:
    return None if after is None else check_count("after", after, most=_LARGEST_ID)


def _check_new(job: object) -> NewJob:
    if not isinstance(job, NewJob):
        raise TypeError(f"add_jobs takes NewJob(…), got {job!r}")
    return job
