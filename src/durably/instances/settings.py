"""The settings of the instance service."""

import math
from dataclasses import dataclass

from durably.instances.instance import OnFailure

_DURATIONS = (
    *("poll_interval", "max_wait_time", "retry_base_delay"),
    *("reconcile_interval", "novita_timeout"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """How the instance service behaves. All durations are seconds.

    Raises:
        TypeError, ValueError: a setting is unusable; the message names it and its value.
    """

    poll_interval: float = 30.0
    """Between two looks at an instance that is coming up."""
    max_wait_time: float = 1200.0
    """Until an instance must be running, and from then on until its ports must answer."""
    max_retry_attempts: int = 3
    """Attempts of create and monitor jobs."""
    retry_base_delay: float = 1.0
    """Before the second attempt of a job or a webhook; doubles with each further one."""
    on_failure: OnFailure = OnFailure.DELETE
    """What becomes of the upstream instance after a failure."""
    reconcile_interval: float = 300.0
    """Between two comparisons of upstream with the records."""
    novita_timeout: float = 30.0
    """The longest that one call to the provider takes."""

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number of seconds, got {value!r}")
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number of seconds, got {value!r}")
        if self.max_retry_attempts < 1:
            raise ValueError(
                f"max_retry_attempts must be at least 1, got {self.max_retry_attempts}"
            )
