"""The typed form: `@queue.task` makes a function's parameters the payload of its jobs."""

import inspect
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    get_type_hints,
    overload,
)

import msgspec

from durably.domain.job import Job
from durably.engine.context import JobContext, SyncJobContext

if TYPE_CHECKING:
    from durably.engine.queue import JobQueueService

_P = ParamSpec("_P")
_R = TypeVar("_R")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY,)
_OPEN_ENDED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Task(Generic[_P, _R]):
    """A function whose calls can be enqueued. Calling it runs the function itself.

    Attributes:
        name: the job type.
    """

    def __init__(
        self, queue: "JobQueueService", function: Callable[..., _R], name: str | None
    ) -> None:
        self.name: str = name or str(getattr(function, "__name__", ""))
        self.function = function
        self._queue = queue
        self._signature = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
        self._context = next((n for n, h in hints.items() if _is_context(h)), None)
        self.payload_type = self._struct(hints)
        self.__doc__ = function.__doc__
        self.__name__ = self.name

    def _struct(self, hints: dict[str, Any]) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for name, parameter in self._signature.parameters.items():
            if name == self._context:
                continue
            if parameter.kind in _OPEN_ENDED + _BY_POSITION:
                raise TypeError(
                    f"task {self.name}: parameter {parameter} cannot be a payload field;"
                    " use plain or keyword-only parameters"
                )
            kind = hints.get(name, Any)
            if parameter.default is inspect.Parameter.empty:
                fields.append((name, kind))
            else:
                fields.append((name, kind, _default(parameter.default)))
        return msgspec.defstruct(
            self.name or "task", fields, kw_only=True, forbid_unknown_fields=True
        )

    def __call__(self, *args: Any, **kwargs: Any) -> _R:
        """Run the function here and now; no job. A context must be given like any argument."""
        return self.function(*args, **kwargs)

    def payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The payload of a call.

        Raises:
            TypeError: the arguments do not fit the signature.
            PayloadError: a value does not fit its annotation.
        """
        if self._context is not None:
            if self._context in kwargs:
                raise TypeError(f"task {self.name}: {self._context} is given by the worker")
            signature = self._signature.replace(
                parameters=[
                    p for p in self._signature.parameters.values() if p.name != self._context
                ]
            )
        else:
            signature = self._signature
        return dict(signature.bind(*args, **kwargs).arguments)

    def handler(self) -> Callable[[Any], Any]:
        """The handler that calls the function with its payload."""
        if inspect.iscoroutinefunction(self.function):

            async def run_async(context: JobContext) -> Any:
                return await self.function(**self._arguments(context))  # type: ignore[misc]

            return run_async

        def run(context: SyncJobContext) -> Any:
            return self.function(**self._arguments(context))

        return run

    def _arguments(self, context: JobContext | SyncJobContext) -> dict[str, Any]:
        payload = context.payload
        arguments = {name: getattr(payload, name) for name in payload.__struct_fields__}
        if self._context is not None:
            arguments[self._context] = context
        return arguments

    async def enqueue(self, *args: _P.args, **kwargs: _P.kwargs) -> Job:
        """Add a job that calls the function with these arguments."""
        return await self._queue.add_job(self.name, self.payload(*args, **kwargs))

    def enqueue_sync(self, *args: _P.args, **kwargs: _P.kwargs) -> Job:
        """The same from code that is not async (see `JobQueueService.add_job_sync`)."""
        return self._queue.add_job_sync(self.name, self.payload(*args, **kwargs))

    def using(self, **options: Any) -> "Bound[_P, _R]":
        """The task with `add_job`'s options: ``task.using(delay=60).enqueue(…)``."""
        return Bound(self, self._queue, options)


class Bound(Generic[_P, _R]):
    """A task with options for its next jobs."""

    def __init__(
        self, task: Task[_P, _R], queue: "JobQueueService", options: dict[str, Any]
    ) -> None:
        self._task = task
        self._queue = queue
        self._options = options

    async def enqueue(self, *args: _P.args, **kwargs: _P.kwargs) -> Job:
        """See `Task.enqueue`."""
        payload = self._task.payload(*args, **kwargs)
        return await self._queue.add_job(self._task.name, payload, **self._options)

    def enqueue_sync(self, *args: _P.args, **kwargs: _P.kwargs) -> Job:
        """See `Task.enqueue_sync`."""
        payload = self._task.payload(*args, **kwargs)
        return self._queue.add_job_sync(self._task.name, payload, **self._options)


class TaskDecorator(Protocol):
    """What `@queue.task(…)` with options is: takes the function."""

    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, _P], _R]) -> Task[_P, _R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SyncJobContext, _P], _R]) -> Task[_P, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R]) -> Task[_P, _R]: ...


def _is_context(hint: Any) -> bool:
    kinds = get_args(hint) or (hint,)  # also `JobContext | None`
    return any(inspect.isclass(k) and issubclass(k, JobContext | SyncJobContext) for k in kinds)


def _default(value: Any) -> Any:
    # msgspec wants a factory for what is mutable.
    if isinstance(value, list | dict | set | bytearray):
        return msgspec.field(default_factory=value.copy)
    return value
